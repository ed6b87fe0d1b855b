"""Some rows of a batch, as the formula of a method sees them.

A *row* is one prediction to make: a target token of a translation, or an image. The head hands an
objective one chunk of rows after the other. Rows know neither padding nor time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tsa_mt.objectives import functional as F
from tsa_mt.objectives.mutual import MutualSums

LossTerms = dict[str, Tensor]
"""Named, weighted sums over rows; the loss is their plain sum."""

PER_ROW = "per_row:"
"""Prefix of statistics that are sums over rows and are logged as means."""


@dataclass(frozen=True)
class Context:
    """What changes from batch to batch.

    Attributes:
        progress: Fraction of the objective's ramp-up that is done, in [0, 1].
        label_smoothing: Mass taken from the true class in every task loss.
        started: Whether distillation has begun.
    """

    progress: float = 1.0
    label_smoothing: float = 0.0
    started: bool = True


class Predictions:
    """Logits of several leaves (or teachers) for some rows.

    Args:
        logits: ``(leaves, rows, classes)``, or one ``(rows, classes)`` tensor per leaf.
    """

    def __init__(self, logits: Tensor | Sequence[Tensor]):
        self._logits = logits if isinstance(logits, Tensor) else torch.stack(list(logits))
        self._log_probs: dict[float, Tensor] = {}

    @property
    def leaves(self) -> int:
        """Number of leaves."""
        return self._logits.shape[0]

    def logits(self, leaf: int | None = None) -> Tensor:
        """Logits ``(rows, classes)`` of one leaf, or ``(leaves, rows, classes)`` of all."""
        return self._logits if leaf is None else self._logits[leaf]

    def log_probs(self, leaf: int | None = None, temperature: float = 1.0) -> Tensor:
        """``log softmax(logits / temperature)``, computed once per temperature.

        Half precision is raised to float32. Float64 stays float64.

        Args:
            leaf: Number of a leaf. Without one, all leaves at once.
            temperature: Divides the logits.

        Returns:
            ``(rows, classes)`` of one leaf, or ``(leaves, rows, classes)`` of all.
        """
        if temperature not in self._log_probs:
            self._log_probs[temperature] = self._softened(temperature)
        every = self._log_probs[temperature]
        return every if leaf is None else every[leaf]

    def _softened(self, temperature: float) -> Tensor:
        return F.log_softmax(self._logits, temperature)

    def mean_log_probs(self, temperature: float = 1.0) -> Tensor:
        """Log of the mean probability over the leaves, ``(rows, classes)``."""
        return F.mean_probability(self.log_probs(temperature=temperature))


class Rows(Predictions):
    """What `Objective.terms` reads.

    Args:
        logits: ``(leaves, rows, classes)``, or one tensor per leaf; the leader first. The leaves
            are the tree's, then the bridge, then the extra ones that `Objective.fuse` appended.
        targets: ``(rows,)`` class indices.
        features: One ``(rows, dim)`` tensor per leaf.
        gates: What `Objective.fuse` computed, by name; the first dimension is the rows'.
        teacher: The frozen teachers, or the averaged copies of the leaves.
        context: Ramp-up and label smoothing.

    Attributes:
        sums: What the closed form of the loss gave for these rows, where it was used.
    """

    def __init__(
        self,
        logits: Tensor | Sequence[Tensor],
        targets: Tensor,
        features: Sequence[Tensor] = (),
        gates: Mapping[str, Tensor] | None = None,
        teacher: Predictions | None = None,
        context: Context = Context(),  # noqa: B008 - frozen
    ):
        super().__init__(logits)
        self.targets = targets
        self.gates = dict(gates or {})
        self.context = context
        self.logged: dict[str, Tensor] = {}
        self.sums: MutualSums | None = None
        self._features = features
        self._teacher = teacher

    @property
    def progress(self) -> float:
        """Fraction of the ramp-up that is done, in [0, 1]."""
        return self.context.progress

    @property
    def teacher(self) -> Predictions:
        """The frozen teachers, or the averaged copies of the leaves; they get no gradient.

        Raises:
            ValueError: There is no teacher.
        """
        if self._teacher is None:
            raise ValueError("the objective needs a teacher's logits, and these rows have none")
        return self._teacher

    def features(self, leaf: int) -> Tensor:
        """Features ``(rows, dim)`` of a leaf, the input of its projection."""
        return self._features[leaf]

    def gate(self, name: str) -> Tensor:
        """What `Objective.fuse` computed under that name, ``(rows, ...)``."""
        return self.gates[name]

    def task_losses(self) -> Tensor:
        """Cross-entropy with label smoothing of every leaf, ``(leaves,)``, summed over rows."""
        return F.cross_entropy_of_logits(
            self.logits(), self.log_probs(), self.targets, self.context.label_smoothing
        )

    def task_loss_of(self, logits: Tensor) -> Tensor:
        """The same of other logits ``(..., rows, classes)``, such as an ensemble's, all summed."""
        smoothing = self.context.label_smoothing
        return F.cross_entropy(F.log_softmax(logits), self.targets, smoothing).sum()

    def task_alone(self, names: Iterable[str]) -> LossTerms:
        """What a single leaf learns: the plain task loss; every other term of ``names`` is zero."""
        task = self.task_losses().sum()
        return {**{name: task.new_zeros(()) for name in names}, "task": task}

    def log(self, name: str, total: Tensor) -> None:
        """Logs a statistic under a name that is the same in every chunk and on every worker.

        Args:
            name: What the log calls it.
            total: A scalar, summed over the rows. The log shows the mean over all rows.
        """
        key = f"{PER_ROW}{name}"
        self.logged[key] = self.logged.get(key, 0) + total.detach()

    def part(self, leaves: slice, gates: Mapping[str, Tensor]) -> "Rows":
        """The same rows of some leaves, with gates of their own.

        Log-probabilities are still computed once, for all leaves. Statistics count by the part's
        share of the leaves.
        """
        return _Part(self, leaves, gates)


class Formula(Protocol):
    """The head's view of an objective."""

    @property
    def leaves(self) -> int:
        """Number of leaves in one pass, without extra ones."""

    def terms(self, rows: Rows) -> LossTerms:
        """Named, weighted sums over rows."""

    def task_weight(self, context: Context) -> float:
        """Weight of the task loss of one leaf."""


class _Part(Rows):
    def __init__(self, whole: Rows, leaves: slice, gates: Mapping[str, Tensor]):
        own = whole._features[leaves]
        logits = whole.logits()[leaves]
        super().__init__(logits, whole.targets, own, gates, whole._teacher, whole.context)
        self._whole, self._leaves = whole, leaves

    def _softened(self, temperature: float) -> Tensor:
        return self._whole.log_probs(temperature=temperature)[self._leaves]

    def log(self, name: str, total: Tensor) -> None:
        self._whole.log(name, total * (self.leaves / self._whole.leaves))
