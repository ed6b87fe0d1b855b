"""Objectives in a plain PyTorch training loop, without a tree model, a head or fairseq."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from torch import Tensor
from torch.nn.functional import linear

from tsa_mt.branches import BranchOutputs, Projection
from tsa_mt.objectives.rows import Context, LossTerms, Predictions, Rows
from tsa_mt.tree import Tree


class Evaluated(Protocol):
    """What is asked of an objective; see `tsa_mt.objectives.base.Objective` for the meaning."""

    name: ClassVar[str]
    fuses_features: ClassVar[bool]
    needs_teacher: ClassVar[bool]
    needs_bridge: ClassVar[bool]
    tree: Tree
    leaves: int
    feature_dim: int
    num_classes: int
    label_smoothing: float

    @property
    def average_decay(self) -> float | None:
        """Decay of an averaged copy."""

    @property
    def projections(self) -> list[Projection]:
        """Projections of extra leaves."""

    def fuse(self, outputs: BranchOutputs) -> BranchOutputs:
        """Runs trainable parts."""

    def terms(self, rows: Rows) -> LossTerms:
        """Sums over rows."""


def evaluate(
    objective: Evaluated,
    logits: Sequence[Tensor],
    target: Tensor,
    features: Sequence[Tensor] | None = None,
    progress: float = 1.0,
    teacher_logits: Sequence[Tensor] | None = None,
    trunk: Tensor | None = None,
    passes: int = 1,
    fuse: Callable[[list[BranchOutputs]], BranchOutputs] | None = None,
) -> LossTerms:
    """Terms of an objective for tensors at hand.

    Args:
        objective: What to evaluate; calling it calls this function.
        logits: One ``(rows, classes)`` tensor per leaf, the leader first; under R-Drop those of
            pass 1, then those of pass 2.
        target: ``(rows,)`` class indices.
        features: One ``(rows, feature_dim)`` tensor per logits, for objectives that fuse them.
        progress: Fraction of the ramp-up that is done, in [0, 1].
        teacher_logits: One ``(rows, classes)`` tensor per frozen teacher, or per averaged peer, for
            objectives that have them; they get no gradient.
        trunk: ``(rows, trunk_dim)`` features of the trunk, for objectives with a gate on them;
            ``(passes * rows, trunk_dim)`` under R-Drop.
        passes: How often the batch went through the network.
        fuse: Runs the trainable parts on every pass and joins them; unset, the objective's own.

    Returns:
        Named, weighted sums over rows; ``sum(terms.values()) / rows`` is the usual loss.

    Raises:
        ValueError: The number of leaves or the shapes do not fit the tree, features or teachers are
            missing or out of place.
    """
    logits, features = list(logits), list(features or ())
    _check_logits(objective, logits, target, passes)
    _check_features(objective, features, passes)
    _check_teachers(objective, list(teacher_logits or ()), target)
    trunks = [None] * passes if trunk is None else trunk.chunk(passes)
    outputs = [
        BranchOutputs(part, trunk=own) for part, own in zip(_parts(features, passes), trunks)
    ]
    fused = objective.fuse(outputs[0]) if fuse is None else fuse(outputs)
    teacher = Predictions([t.detach() for t in teacher_logits]) if teacher_logits else None
    rows = Rows(
        _with_extra_logits(objective, logits, fused.features, passes),
        target,
        fused.features,
        fused.gates,
        teacher,
        Context(progress, objective.label_smoothing),
    )
    return objective.terms(rows)


def _parts(tensors: list[Tensor], count: int) -> list[list[Tensor]]:
    """A list cut into equal parts."""
    size = len(tensors) // count
    return [tensors[number * size : (number + 1) * size] for number in range(count)]


def _with_extra_logits(
    objective: Evaluated, logits: list[Tensor], features: list[Tensor], passes: int
) -> list[Tensor]:
    """The logits of every pass followed by those of the pass's extra leaves."""
    every: list[Tensor] = []
    for own, fused in zip(_parts(logits, passes), _parts(features, passes)):
        extra = zip(fused[objective.leaves :], objective.projections)
        every += own
        every += [linear(feature, head.weight, head.bias) for feature, head in extra]
    return every


def _check_logits(objective: Evaluated, logits: list[Tensor], target: Tensor, passes: int) -> None:
    if len(logits) != passes * objective.leaves:
        twice = ", for pass 1 and then for pass 2" if passes > 1 else ""
        bridge = " with the bridge" if objective.needs_bridge else ""
        raise ValueError(
            f"objective {objective.name!r} got logits of {len(logits)} leaves, but tree "
            f"'{objective.tree}' has {objective.leaves}{bridge}; pass one (rows, classes) tensor "
            f"per leaf{twice}"
        )
    if target.dim() != 1:
        raise ValueError(
            f"target has shape {tuple(target.shape)}; it must be (rows,) class indices"
        )
    for leaf, tensor in enumerate(logits):
        _check_shape(objective, f"logits of leaf {leaf}", tensor, target)


def _check_features(objective: Evaluated, features: list[Tensor], passes: int) -> None:
    leaves = len(objective.tree.leaves)
    if objective.fuses_features and leaves > 1 and len(features) != passes * leaves:
        raise ValueError(
            f"objective {objective.name!r} fuses the features of {passes * leaves} leaves, got "
            f"{len(features)}; pass features=[...] with one (rows, {objective.feature_dim}) tensor "
            f"per logits tensor"
        )


def _check_teachers(objective: Evaluated, logits: list[Tensor], target: Tensor) -> None:
    averaged, taught = objective.average_decay is not None, objective.needs_teacher
    if averaged and len(logits) != objective.leaves:
        raise ValueError(
            f"objective {objective.name!r} needs the logits of {objective.leaves} averaged leaves, "
            f"got {len(logits)}; pass teacher_logits=[...] with one (rows, classes) tensor per leaf"
        )
    if taught and not logits:
        raise ValueError(
            f"objective {objective.name!r} needs a teacher; pass teacher_logits=[...] with one "
            f"(rows, classes) tensor per teacher"
        )
    if logits and not (averaged or taught):
        raise ValueError(
            f"objective {objective.name!r} has no use for teacher_logits; leave them out"
        )
    for number, tensor in enumerate(logits):
        _check_shape(objective, f"logits of teacher {number}", tensor, target)


def _check_shape(objective: Evaluated, what: str, tensor: Tensor, target: Tensor) -> None:
    expected = (target.shape[0], objective.num_classes)
    if tuple(tensor.shape) != expected:
        raise ValueError(
            f"{what} have shape {tuple(tensor.shape)}, expected {expected} "
            f"(rows of the target, num_classes)"
        )
