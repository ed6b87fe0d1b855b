"""A run as the page speaks of it: a name that no other run has, and the method it belongs to."""

from dataclasses import dataclass
from typing import List, Sequence

from tsa_mt.evaluate.report.comparison import Group
from tsa_mt.evaluate.run_folder import Run

INNER = "train_inner"
_TRAINING = (INNER, "train")


@dataclass(frozen=True)
class Entry:
    """A run with its place on the page.

    Attributes:
        run: The run.
        label: Its name, unlike that of any other.
        anchor: Identifier of its section.
        method: Runs of one method differ in their seed only, as far as colours are concerned.
    """

    run: Run
    label: str
    anchor: str
    method: str

    @property
    def record(self) -> dict:
        """What ``run.json`` holds."""
        return self.run.record

    @property
    def is_translation(self) -> bool:
        """Whether figures are per token, and not per image."""
        return "image" not in str(self.record.get("task"))

    @property
    def unit(self) -> str:
        """What losses are measured in."""
        return "bits per token" if self.is_translation else "bits per image"

    @property
    def valid(self) -> str:
        """The first split that was validated on; empty if there was none."""
        return next((split for split in self.run.splits if split not in _TRAINING), "")

    @property
    def leaves(self) -> int:
        """Number of leaves; 1 where the record does not tell."""
        leaves = self.method_record.get("leaves")
        return leaves if isinstance(leaves, int) else 1

    @property
    def objective(self) -> str:
        """Name of the objective; of a stock network its architecture."""
        return _objective(self.record)

    @property
    def tree(self) -> str:
        """The tree's notation; empty for a network that is none."""
        return _tree(self.record)

    @property
    def method_record(self) -> dict:
        """The record's entry about the method."""
        return _method(self.record)

    def points(self, split: str, metric: str) -> List[tuple]:
        """``(update, value)`` of a curve, one of every update: a resumed run's last word counts."""
        series = self.run.series(split, metric)
        return sorted({point.update: (point.update, point.value) for point in series}.values())


def number_entries(group: Group) -> List[Entry]:
    """Names the runs after their folders, with as many parents as it takes to tell them apart."""
    runs, own = group.runs, _methods(group.runs)
    labels = _labels(runs)
    methods = [group.system_of(run) or name for run, name in zip(runs, own)]
    return [
        Entry(run, label, f"run-{number}", method)
        for number, (run, label, method) in enumerate(zip(runs, labels, methods), start=1)
    ]


def _labels(runs: Sequence[Run]) -> List[str]:
    parts = [run.path.resolve().parts for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-length:]) for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [str(run.path) for run in runs]


def _methods(runs: Sequence[Run]) -> List[str]:
    """The objectives, with the tree where an objective was run on several."""
    pairs = [(_objective(run.record), _tree(run.record)) for run in runs]
    trees = {name: {tree for other, tree in pairs if other == name} for name, _ in pairs}
    return [f"{name}, tree {tree}" if len(trees[name]) > 1 else name for name, tree in pairs]


def _method(record: dict) -> dict:
    found = record.get("method")
    return found if isinstance(found, dict) else {}


def _objective(record: dict) -> str:
    criterion = _method(record).get("criterion")
    trained = _method(record).get("objective") if criterion in (None, "online_kd") else None
    return str(trained or record.get("arch") or "unknown method")


def _tree(record: dict) -> str:
    return str(_method(record).get("tree") or "")
