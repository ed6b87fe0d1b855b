"""Writing a run's record and curves beside its checkpoints while it trains.

A `Recorder` is told what happens: that an epoch begins, that an update is done, that figures are
printed. It keeps two files that can be read at any time (`tsa_mt.evaluate.run_folder`): run.json is
replaced as a whole, curves.csv grows by whole lines. A run that is killed and started again goes on
in both: figures of updates that are done again are dropped, and every start is one entry of
``sessions``.
"""

import math
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from tsa_mt.evaluate.run_folder import COLUMNS, CURVES, FORMAT, RECORD, CurvePoint, read_curves
from tsa_mt.files import read_object, write_json, write_text

WRITE_SECONDS = 20.0
"""Between two log intervals the record is not written more often than this."""
NOT_CURVES = {"num_updates"}
TRAINED = {"train", "train_inner"}
"""Splits that are trained on; figures of any other are of a validation."""
KILLED = "killed"
DIGITS = 7


@dataclass
class Session:
    """What one start of ``fairseq-train`` did.

    Attributes:
        started: UTC time at which it began to train.
        from_update: Updates that the run had had before.
        updates: Updates that it has had since.
        seconds: Wall time since the start, validation and saving included.
        train_seconds: Time within updates.
        tokens: Target tokens (or images) of those updates, over all workers.
        timed_tokens: Of these, the tokens of updates that count in ``train_seconds``.
        operations: Operations that were counted, on this worker.
        counted_tokens: Tokens of this worker in the updates whose operations were counted.
        commit: Of the code that ran.
        ended: How it ended: the run's status and the reason; unset while it runs, and ``killed``
            where the next start found no word of an end.
    """

    started: str
    from_update: int
    updates: int = 0
    seconds: float = 0.0
    train_seconds: float = 0.0
    tokens: float = 0.0
    timed_tokens: float = 0.0
    operations: int = 0
    counted_tokens: int = 0
    commit: Optional[str] = None
    ended: Optional[str] = None


@dataclass
class Tracked:
    """The figure that checkpoints are chosen by.

    Attributes:
        split: First subset that is validated.
        metric: Name of the figure.
        maximize: Whether more of it is better.
        checkpoint: Name of the file that holds the best one.
    """

    split: str
    metric: str
    maximize: bool = False
    checkpoint: str = "checkpoint_best.pt"


@dataclass
class Recorder:
    """Keeps the record of one run; see the module's docstring.

    Args:
        folder: Where checkpoints are saved.
        facts: Entries of run.json that do not change.
        tracked: What checkpoints are chosen by.
        update: Updates that the restored checkpoint had had, 0 for a new run.
        validation_is_due: Whether the validation after that update will be done again.
    """

    folder: Path
    facts: Dict[str, Any]
    tracked: Tracked
    update: int
    epoch: int = 0
    status: str = "running"
    reason: Optional[str] = None
    validation_is_due: bool = False
    peak_memory_bytes: int = 0
    session: Session = field(init=False)

    def __post_init__(self):
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.session = Session(started, self.update, commit=self.facts.get("commit"))
        self._clock = time.monotonic()
        self._written = 0.0
        self._between_epochs = True
        earlier = self._earlier_record() if self.update else {}
        self.earlier: List[Dict[str, Any]] = [
            {**entry, "ended": entry.get("ended") or KILLED}
            for entry in earlier.get("sessions", [])
        ]
        self.peak_memory_bytes = earlier.get("peak_memory_bytes") or 0
        self._validated = self._keep_curves()

    def _earlier_record(self) -> Dict[str, Any]:
        try:
            found = read_object(self.folder / RECORD)
        except (OSError, ValueError):
            return {}
        return found if found.get("format") == FORMAT else {}

    def _keep_curves(self) -> List[CurvePoint]:
        """Drops figures of updates that will be done again; what is left of the tracked figure."""
        path = self.folder / CURVES
        try:
            points = [point for point in read_curves(path) if self._is_done(point)]
        except ValueError:
            points = []
        points = points if self.update else []
        header = ",".join(COLUMNS) + "\n"
        write_text(path, header + "".join(map(_line, points)))
        wanted = (self.tracked.split, self.tracked.metric)
        return [point for point in points if (point.split, point.metric) == wanted]

    def _is_done(self, point: CurvePoint) -> bool:
        """Whether a figure will not be computed again."""
        if self.validation_is_due and point.split not in TRAINED:
            return point.update < self.update
        return point.update <= self.update

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins, or goes on after a restart."""
        self.epoch, self.status, self.reason, self._between_epochs = epoch, "running", None, False
        self.write()

    def complete_epoch(self, figures: Mapping[str, Any]) -> None:
        """Keeps the figures of an epoch that a killed training did not come to write."""
        known = {(point.update, point.split) for point in read_curves(self.folder / CURVES)}
        if (self.update, "train") not in known:
            self.log("train", figures, self.update)

    def end_epoch(self, over: bool) -> None:
        """An epoch is over, and with it perhaps the training."""
        self._between_epochs = True
        if over and self.status == "running":
            self.status = "finished"
        self.write()

    def end(self, status: str, reason: Optional[str] = None) -> None:
        """The training ends, and it is known how and why."""
        self.status, self.reason = status, reason
        self.write()

    def close(self) -> None:
        """The process ends: between two epochs in good order, within one before its time."""
        if self.status == "running":
            self.status = "finished" if self._between_epochs else "interrupted"
            self.write()

    def step(self, tokens: float, seconds: float) -> None:
        """An update was done.

        Args:
            tokens: Of all workers.
            seconds: It took; 0 for an update that was slowed down and shall not count.
        """
        self.update += 1
        self.session.updates += 1
        self.session.tokens += tokens
        if seconds:
            self.session.train_seconds += seconds
            self.session.timed_tokens += tokens

    def count(self, operations: int, tokens: int) -> None:
        """The operations of an update were counted, and its tokens, both of this worker."""
        self.session.operations += operations
        self.session.counted_tokens += tokens

    def log(self, split: str, figures: Mapping[str, Any], update: int) -> None:
        """Figures were printed; what is no number is left out."""
        points = [
            CurvePoint(update, self.epoch, split, metric, value)
            for metric, value in _numbers(figures).items()
            if metric not in NOT_CURVES
        ]
        with open(self.folder / CURVES, "a", encoding="utf-8") as file:
            file.write("".join(map(_line, points)))  # one call: a kill leaves whole lines
        wanted = (self.tracked.split, self.tracked.metric)
        self._validated += [point for point in points if (point.split, point.metric) == wanted]
        if time.monotonic() - self._written > WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Writes run.json anew."""
        self.session.seconds = round(time.monotonic() - self._clock, 3)
        if self.status != "running":
            self.session.ended = ": ".join(filter(None, (self.status, self.reason)))
        write_json(self.folder / RECORD, self.record())
        self._written = time.monotonic()

    def record(self) -> Dict[str, Any]:
        """What run.json holds now."""
        sessions = [*self.earlier, vars(self.session)]
        total = {
            name: sum(entry.get(name) or 0 for entry in sessions)
            for name, value in vars(self.session).items()
            if isinstance(value, (int, float))
        }
        per_token = _ratio(total["operations"], total["counted_tokens"]) or 0.0
        per_update = _ratio(total["tokens"], total["updates"]) or 0.0
        return {
            "format": FORMAT,
            "status": self.status,
            "reason": self.reason,
            **self.facts,
            "updates": self.update,
            "epochs": self.epoch,
            "seconds": round(total["seconds"], 3),
            "peak_memory_bytes": self.peak_memory_bytes or None,
            "tokens_per_second": _ratio(total["timed_tokens"], total["train_seconds"]),
            "training_flops": round(per_token * per_update * self.update) or None,
            "best": self.best(),
            "sessions": sessions,
        }

    def best(self) -> Optional[Dict[str, Any]]:
        """The best validation so far, the latest of equally good ones; unset before the first."""
        finite = [point for point in self._validated if math.isfinite(point.value)]
        if not finite:
            return None
        choose = max if self.tracked.maximize else min
        value = choose(point.value for point in finite)
        point = [point for point in finite if point.value == value][-1]
        saved = (self.folder / self.tracked.checkpoint).is_file()
        return {
            "metric": self.tracked.metric,
            "value": value,
            "update": point.update,
            "epoch": point.epoch,
            "checkpoint": self.tracked.checkpoint if saved else None,
        }


def _numbers(figures: Mapping[str, Any]) -> Dict[str, float]:
    numbers = {}
    for name, value in figures.items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError):
            continue
    return numbers


def _line(point: CurvePoint) -> str:
    return f"{point.update},{point.epoch},{point.split},{point.metric},{point.value:.{DIGITS}g}\n"


def _ratio(amount: float, per: float) -> Optional[float]:
    return amount / per if per else None
