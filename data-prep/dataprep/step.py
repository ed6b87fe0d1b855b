"""A step of the preparation: a folder, a key, and whether it is done.

The key is made of the step's settings and of the keys of the steps before it. A folder whose key
differs is emptied before work starts; one with the same key keeps the parts it already has.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from dataprep.files import key_of, read_json, write_json

# Raised when a step's output changes for the same settings: old folders are then made again.
FORMAT = 2


@dataclass(frozen=True)
class Step:
    """One step, e.g. ``clean/train``.

    Attributes:
        name: What the person sees.
        folder: Where the step keeps its parts and ``step.json``.
        key: Fingerprint of settings and everything before.
    """

    name: str
    folder: Path
    key: str

    @classmethod
    def after(cls, name: str, work: Path, settings: Any, upstream: Sequence["Step"] = ()) -> "Step":
        """Build a step that depends on its settings and on earlier steps."""
        return cls(name, work / name, key_of(FORMAT, name, settings, [s.key for s in upstream]))

    @property
    def state(self) -> Path:
        """The file that says which key the folder belongs to, and whether it is complete."""
        return self.folder / "step.json"

    def record(self, root: Optional[Path] = None) -> Optional[Dict[str, Any]]:
        """What the finished step left behind, or None if there is work to do.

        Args:
            root: Folder against which the record's ``outputs`` (name to size) are verified.
        """
        state = read_json(self.state)
        if not state or state["key"] != self.key or "record" not in state:
            return None
        outputs = state["record"].get("outputs", {})
        if root is not None and any(_size(root / name) != size for name, size in outputs.items()):
            return None
        return state["record"]

    def start(self) -> None:
        """Make the folder ready, keeping what an interrupted run with the same key has done."""
        state = read_json(self.state)
        if state is None or state["key"] != self.key:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        write_json(self.state, {"key": self.key})

    def finish(self, record: Dict[str, Any]) -> Dict[str, Any]:
        """Mark the step as done."""
        write_json(self.state, {"key": self.key, "record": record})
        return record


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
