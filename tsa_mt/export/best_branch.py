"""``--branch best``: the leaf with the lowest negative log likelihood on the validation set.

A checkpoint does not hold these figures: what fairseq keeps of validation in it is the mean over
all validations of the run, and ``best`` is a single number of the leader. So the run's curves are
asked, else its log.
"""

import json
import math
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from tsa_mt.evaluate.run_folder import CURVES, read_curves
from tsa_mt.export.checkpoint import options_of
from tsa_mt.files import PathLike

METRIC = re.compile(r"nll_b(\d+)")

Figure = Tuple[int, str, float]  # update, metric, value

_JSON = re.compile(r"\| (\S+) \| (\{.*\})\s*$")
_SIMPLE = re.compile(r"valid on '([^']+)' subset \| (.*)$")


class BestBranch(NamedTuple):
    """The choice, and what it rests on.

    Attributes:
        branch: Number of the leaf.
        nll: Validation negative log likelihood of every leaf, in bits per token.
        update: The update after which it was measured.
        source: The file that says so.
    """

    branch: int
    nll: Dict[int, float]
    update: int
    source: Path

    def __str__(self) -> str:
        figures = ", ".join(f"leaf {leaf} {value:.3f}" for leaf, value in sorted(self.nll.items()))
        return (
            f"leaf {self.branch} has the lowest validation nll at update {self.update:,} "
            f"({figures}; from {self.source})"
        )


def best_branch(checkpoint: dict, path: PathLike) -> BestBranch:
    """Chooses the leaf of a checkpoint that does best on the validation set.

    Args:
        checkpoint: The loaded checkpoint.
        path: Where it lies; the figures are looked for beside it.

    Raises:
        ValueError: No file beside the checkpoint has the figures.
    """
    folder = Path(path).parent
    updates = int((checkpoint.get("optimizer_history") or [{}])[-1].get("num_updates", 0))
    subset = (options_of(checkpoint, "dataset").get("valid_subset") or "valid").split(",")[0]
    logs = _logs(checkpoint, folder)
    places = [(folder / CURVES, _of_curves), *((log, _of_log) for log in logs)]
    for source, read in places:
        found = _latest(read(source, subset), updates)
        if found is not None:
            update, nll = found
            branch = min(sorted(nll), key=nll.__getitem__)
            return BestBranch(branch, nll, update, source)
    looked = ", ".join([CURVES, *(log.name for log in logs)])
    raise ValueError(
        f"--branch best: nothing beside {path} says how the leaves did on '{subset}' up to update "
        f"{updates:,} (looked for nll_b0, nll_b1, ... in {looked}); keep the checkpoint in its "
        f"run's folder with {CURVES} or the training's log, or name a leaf's number"
    )


def _logs(checkpoint: dict, folder: Path) -> List[Path]:
    """Files that may hold the training's log: the one it was told to write, then all beside it."""
    named = options_of(checkpoint, "common").get("log_file")
    candidates = [Path(named)] if named else []
    candidates += [folder / "train.log", *sorted(folder.glob("*.log"))]
    return [path for path in dict.fromkeys(candidates) if path.is_file()]


def _of_curves(path: Path, subset: str) -> Iterator[Figure]:
    for point in read_curves(path):
        if point.split == subset:
            yield point.update, point.metric, point.value


def _of_log(path: Path, subset: str) -> Iterator[Figure]:
    """What fairseq logged of validation, in its JSON or its simple format."""
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            figures = _validation(line.rstrip("\n"), subset) or {}
            update = figures.pop("num_updates", None)
            if update is not None:
                yield from ((int(float(update)), m, float(v)) for m, v in figures.items())


def _validation(line: str, subset: str) -> Optional[Dict[str, str]]:
    """The figures of one line of a log, as text; ``None`` if it is about something else."""
    found = _JSON.search(line)
    if found and found[1] == subset:
        try:
            record = json.loads(found[2])
        except ValueError:
            return None
        prefix = f"{subset}_"
        named = {name.removeprefix(prefix): str(value) for name, value in record.items()}
        return {name: v for name, v in named.items() if _wanted(name)}
    found = _SIMPLE.search(line)
    if found and found[1] == subset:
        pairs = (part.split(" ", 1) for part in found[2].split(" | ") if " " in part)
        return {name: value for name, value in pairs if _wanted(name)}
    return None


def _wanted(name: str) -> bool:
    return bool(METRIC.fullmatch(name)) or name == "num_updates"


def _latest(figures: Iterator[Figure], updates: int) -> Optional[Tuple[int, Dict[int, float]]]:
    """The last validation up to an update that has finite figures of leaves."""
    found: Dict[int, Dict[int, float]] = {}
    for update, metric, value in figures:
        leaf = METRIC.fullmatch(metric)
        if leaf and update <= updates and math.isfinite(value):
            found.setdefault(update, {})[int(leaf[1])] = value
    if not found:
        return None
    update = max(found)
    return update, found[update]
