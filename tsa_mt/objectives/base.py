"""The contract of an objective, and the registry of all of them.

An objective says what the leaves of a tree learn. It is an ``nn.Module`` with two halves:

* `Objective.fuse` owns whatever is trainable (attention, gates, fusion blocks, projections of
  leaves made of features). The model holds the objective under ``branches`` and runs this half
  inside its forward.
* `Objective.terms` has no parameters. It turns logits and targets into named sums over rows; the
  values are weighted already, so that their plain sum is the loss. It must be additive over rows:
  the head evaluates it on chunks.

Write a subclass, give it a frozen config dataclass whose defaults are the published ones, register
it, and it has command-line options, tests and documentation.
"""

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Type, Union

import torch
from torch import Tensor, nn

from tsa_mt.branches import BranchOutputs, Predictions, Projection, gates_of_pass, join_passes
from tsa_mt.objectives.config import ObjectiveConfig, RampedConfig
from tsa_mt.objectives.functional import (
    cross_entropy_of_logits,
    gaussian_rampup,
    mean_probability,
    pairwise_kl,
)
from tsa_mt.objectives.fusion import ROWS, FusionModules
from tsa_mt.tree import Tree

LossTerms = Dict[str, Tensor]
"""Named, weighted sums over rows; the loss is their plain sum."""


LEAVES = ("leader", "peers")
"""What a gradient reaches that reaches the logits of every leaf."""


@dataclass(frozen=True)
class Context:
    """What changes from batch to batch.

    Attributes:
        progress: Fraction of the objective's ramp-up that is done, in [0, 1].
        label_smoothing: Mass taken from the true class in every task loss.
        teacher: Logits ``(teachers, rows, classes)`` of the frozen teachers, for these rows.
    """

    progress: float = 1.0
    label_smoothing: float = 0.0
    teacher: Optional[Predictions] = None

    def teacher_log_probs(self, temperature: float = 1.0) -> Tensor:
        """Log of the teachers' mean probability at a temperature, ``(rows, classes)``.

        Raises:
            ValueError: There is no teacher.
        """
        if self.teacher is None:
            raise ValueError("the objective needs a teacher's logits, and the context has none")
        return mean_probability(self.teacher.log_probs(temperature)).detach()


class Objective(nn.Module):
    """Base class of all objectives; see the module's docstring for the contract.

    Args:
        tree: The tree whose leaves learn together.
        feature_dim: Width of a leaf's features.
        num_classes: Number of classes (the target vocabulary).
        label_smoothing: Used by the standalone call only; a criterion passes its own.
        trunk_dim: Width of the trunk's features; unset, that of a leaf's.
        fusion: Building blocks for trainable parts, by the kind of features: rows or feature maps.
        leaf_dims: Width of each leaf's features; unset, all are alike.
        **options: Fields of ``Config``.

    Raises:
        ValueError: The leaves' features differ in width, and the objective cannot fuse such.

    Attributes:
        Config: Frozen dataclass of the options.
        name: Registered name.
        default_tree: Preset used when no tree is given.
        fuses_features: Whether `fuse` reads the leaves' features.
        fuses_widths: Whether it can do so where they differ in width.
        ordered: Whether the leaves but the leader are not interchangeable, by their places in the
            formula or in the shapes of trainable parts.
        rescales_shared: Whether what several leaves share gets the mean of their gradients instead
            of the sum: at every fork, and in an output projection of several leaves.
        needs_teacher: Whether `terms` reads the teachers' logits from its context.
        needs_bridge: Whether one more branch grows out of the teacher; its logits come last.
    """

    Config: Type[ObjectiveConfig] = ObjectiveConfig
    name: str = ""
    default_tree: str = "tsa"
    fuses_features: bool = False
    fuses_widths: bool = False
    ordered: bool = False
    rescales_shared: bool = False
    needs_teacher: bool = False
    needs_bridge: bool = False

    def __init__(
        self,
        tree: Tree,
        feature_dim: int,
        num_classes: int,
        label_smoothing: float = 0.0,
        trunk_dim: Optional[int] = None,
        fusion: FusionModules = ROWS,
        leaf_dims: Optional[Sequence[int]] = None,
        **options: Any,
    ):
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing is {label_smoothing}; it must be in [0, 1)")
        self.tree = tree
        self.feature_dim = feature_dim
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.trunk_dim = trunk_dim or feature_dim
        self.fusion = fusion
        self.leaf_dims = tuple(leaf_dims or [feature_dim] * len(tree.leaves))
        self._check_widths()
        self.config = self.Config(**options)

    def _check_widths(self) -> None:
        uneven = len(set(self.leaf_dims)) > 1
        if uneven and self.fuses_features and not self.fuses_widths:
            widths = ", ".join(map(str, self.leaf_dims))
            raise ValueError(
                f"objective {self.name!r} fuses features of one width, but the leaves of tree "
                f"'{self.tree}' have {widths}; make its branches equally deep"
            )

    @property
    def leaves(self) -> int:
        """Number of leaves: those of the tree, and the bridge where there is one."""
        return len(self.tree.leaves) + self.needs_bridge

    @property
    def passes(self) -> int:
        """How often a batch goes through the model: twice under R-Drop."""
        return 2 if self.config.rdrop_weight else 1

    @property
    def views(self) -> int:
        """How many augmentations of every image a training batch has: one, or one per leaf."""
        own = getattr(self.config, "own_augmentation", False)
        return len(self.tree.leaves) if own else 1

    @property
    def average_decay(self) -> Optional[float]:
        """Decay per update of an averaged copy of the whole model, ``None`` for no such copy.

        The logits of its leaves are what ``Context.teacher`` holds.
        """
        return None

    @property
    def projections(self) -> List[Projection]:
        """The objective's own projections, of the features that `fuse` appends."""
        return []

    @property
    def gradients(self) -> Dict[str, Tuple[str, ...]]:
        """The terms, and what the gradient of each reaches.

        The words are ``leader`` and ``peers`` (logits of the tree's leaves), ``bridge``, ``gates``
        (trainable parts of the objective) and ``fused`` (extra leaves with their projections).
        """
        return {"task": LEAVES, "distillation": LEAVES}

    def fuse(self, outputs: BranchOutputs) -> BranchOutputs:
        """Runs the objective's trainable parts on what the model computed.

        Args:
            outputs: One feature tensor ``(..., feature_dim)`` per leaf, the leader first, and the
                trunk's hidden state.

        Returns:
            The outputs with gates, and with the features of extra leaves (one for each of
            `projections`) appended; unchanged by default.
        """
        return outputs

    def gate_statistics(self, gates: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Weights that the gates give, for logging.

        Args:
            gates: What `fuse_passes` returned: ``(..., mixtures, leaves)`` by name.

        Returns:
            Sums over rows, averaged over dropout passes, by fixed names: ``gate_NAME_bK`` is the
            weight of leaf K, ``gate_NAME_J_bK`` that in mixture J where there are several. Leaves
            and mixtures count so that the last is the last leaf's; objectives without gates have
            none.
        """
        sums: Dict[str, Tensor] = {}
        for name, gate in gates.items():
            weights = gate.detach().flatten(0, -3).float().sum(0) / self.passes
            mixtures, columns = weights.shape
            for row, column in itertools.product(range(mixtures), range(columns)):
                mixture = f"_{self.leaves - mixtures + row}" if mixtures > 1 else ""
                leaf = self.leaves - columns + column
                key = f"gate_{name.partition('@')[0]}{mixture}_b{leaf}"
                sums[key] = sums.get(key, 0) + weights[row, column]
        return sums

    def fuse_passes(self, passes: Sequence[BranchOutputs]) -> BranchOutputs:
        """`fuse` of every dropout pass, joined."""
        return join_passes([self.fuse(outputs) for outputs in passes])

    @property
    def ramps(self) -> bool:
        """Whether the distillation terms grow during the first part of training."""
        return isinstance(self.config, RampedConfig)

    def ramp_updates(self, max_update: int) -> float:
        """Length of the ramp-up in updates.

        Args:
            max_update: Length of the whole training, 0 when it is not known.

        Raises:
            ValueError: The length is a fraction of a training whose length is not known.
        """
        if not self.ramps:
            return 0.0
        if self.config.rampup and not self.config.rampup_updates and max_update <= 0:
            raise ValueError(
                f"objective {self.name!r} ramps up over {self.config.rampup:g} of the training, "
                f"whose length is not known; give --max-update, or the ramp-up's own length with "
                f"--kd-rampup-updates"
            )
        return self.config.rampup_updates or self.config.rampup * max_update

    def progress(self, num_updates: int, max_update: int) -> float:
        """Fraction of the ramp-up that is done, in [0, 1]; arguments as in `ramp_updates`."""
        length = self.ramp_updates(max_update)
        return min(1.0, num_updates / length) if length else 1.0

    def ramp(self, context: Context) -> float:
        """Weight of the ramp-up, 1 for an objective that has none."""
        return gaussian_rampup(context.progress) if self.ramps else 1.0

    def evaluate(
        self, predictions: Predictions, target: Tensor, gates: Dict[str, Tensor], context: Context
    ) -> LossTerms:
        """`terms` of every dropout pass, added up, and what R-Drop asks of two passes.

        Args:
            predictions: Logits ``(passes * leaves, rows, classes)``, pass by pass.
            target: ``(rows,)`` class indices.
            gates: What `fuse_passes` returned, for these rows.
            context: Ramp-up, label smoothing and teachers.
        """
        if self.passes == 1:
            return self.terms(predictions, target, gates, context)
        first, second = (
            self.terms(part, target, gates_of_pass(gates, number), context)
            for number, part in enumerate(predictions.split(self.passes))
        )
        terms = {name: first[name] + second[name] for name in first}
        return {**terms, "rdrop": self.config.rdrop_weight * self._disagreement(predictions)}

    def _disagreement(self, predictions: Predictions) -> Tensor:
        """``1/2 [KL(first || second) + KL(second || first)]`` of two passes, over all leaves."""
        passes = predictions.log_probs().unflatten(0, (2, -1))[:, : self.leaves]
        return pairwise_kl(passes.flatten(1, 2)) / 2  # passes x leaves*rows x classes

    def terms(
        self, predictions: Predictions, target: Tensor, gates: Dict[str, Tensor], context: Context
    ) -> LossTerms:
        """Named, weighted loss sums over rows.

        Args:
            predictions: Logits ``(leaves, rows, classes)`` and their log-probabilities.
            target: ``(rows,)`` class indices.
            gates: What `fuse` returned, for these rows.
            context: Ramp-up and label smoothing.
        """
        raise NotImplementedError

    def forward(
        self,
        logits: Sequence[Tensor],
        target: Tensor,
        features: Optional[Sequence[Tensor]] = None,
        progress: float = 1.0,
        teacher_logits: Optional[Sequence[Tensor]] = None,
        trunk: Optional[Tensor] = None,
    ) -> LossTerms:
        """The standalone call: both halves at once, for a plain PyTorch training loop.

        Args:
            logits: One ``(rows, classes)`` tensor per leaf, the leader first; under R-Drop those of
                pass 1, then those of pass 2.
            target: ``(rows,)`` class indices.
            features: One ``(rows, feature_dim)`` tensor per logits, for objectives that fuse them.
            progress: Fraction of the ramp-up that is done, in [0, 1].
            teacher_logits: One ``(rows, classes)`` tensor per frozen teacher, or per averaged peer,
                for objectives that have them; they get no gradient.
            trunk: ``(rows, trunk_dim)`` features of the trunk, for objectives with a gate on them;
                ``(passes * rows, trunk_dim)`` under R-Drop.

        Returns:
            Named, weighted sums over rows; ``sum(terms.values()) / rows`` is the usual loss.

        Raises:
            ValueError: The number of leaves or the shapes do not fit the tree, features or teachers
                are missing or out of place.
        """
        self._check_standalone(logits, target)
        teacher = self._check_teachers(teacher_logits or (), target)
        fused = self._fuse_standalone(features, trunk)
        context = Context(progress, self.label_smoothing, teacher)
        every = self._with_extra_logits(list(logits), fused.features)
        return self.evaluate(Predictions(every), target, fused.gates, context)

    def _fuse_standalone(
        self, features: Optional[Sequence[Tensor]], trunk: Optional[Tensor]
    ) -> BranchOutputs:
        leaves = len(self.tree.leaves)
        features = list(features or ())
        if self.fuses_features and leaves > 1 and len(features) != self.passes * leaves:
            raise ValueError(
                f"objective {self.name!r} fuses the features of {self.passes * leaves} leaves, got "
                f"{len(features)}; pass features=[...] with one (rows, {self.feature_dim}) tensor "
                f"per logits tensor"
            )
        trunks = [None] * self.passes if trunk is None else trunk.chunk(self.passes)
        return self.fuse_passes(
            [
                BranchOutputs(features[number * leaves : (number + 1) * leaves], trunk=part)
                for number, part in enumerate(trunks)
            ]
        )

    def _with_extra_logits(self, logits: List[Tensor], features: List[Tensor]) -> List[Tensor]:
        """The logits of every pass followed by those of the pass's extra leaves."""
        extra = self.projections
        if not extra:
            return logits
        every: List[Tensor] = []
        size = len(features) // self.passes
        for number in range(self.passes):
            every += logits[number * self.leaves : (number + 1) * self.leaves]
            appended = features[number * size + self.leaves : (number + 1) * size]
            every += [
                nn.functional.linear(feature, projection.weight, projection.bias)
                for feature, projection in zip(appended, extra)
            ]
        return every

    def task_alone(self, task: Tensor) -> LossTerms:
        """What a single leaf learns: the plain task loss, every other term zero."""
        zeros = {name: task.new_zeros(()) for name in self.gradients}
        return {**zeros, "task": task}

    def task_losses(self, predictions: Predictions, target: Tensor, context: Context) -> Tensor:
        """Label-smoothed cross-entropy per leaf, ``(leaves,)``, summed over rows."""
        return cross_entropy_of_logits(
            predictions.logits, predictions.log_probs(), target, context.label_smoothing
        )

    def _check_standalone(self, logits: Sequence[Tensor], target: Tensor) -> None:
        if len(logits) != self.passes * self.leaves:
            twice = ", for pass 1 and then for pass 2" if self.passes > 1 else ""
            bridge = " with the bridge" if self.needs_bridge else ""
            raise ValueError(
                f"objective {self.name!r} got logits of {len(logits)} leaves, but tree "
                f"'{self.tree}' has {self.leaves}{bridge}; pass one (rows, classes) tensor per "
                f"leaf{twice}"
            )
        if target.dim() != 1:
            raise ValueError(
                f"target has shape {tuple(target.shape)}; it must be (rows,) class indices"
            )
        for leaf, tensor in enumerate(logits):
            self._check_shape(f"logits of leaf {leaf}", tensor, target)

    def _check_teachers(self, logits: Sequence[Tensor], target: Tensor) -> Optional[Predictions]:
        if self.average_decay is not None and len(logits) != self.leaves:
            raise ValueError(
                f"objective {self.name!r} needs the logits of {self.leaves} averaged leaves, got "
                f"{len(logits)}; pass teacher_logits=[...] with one (rows, classes) tensor per leaf"
            )
        if self.average_decay is None and bool(len(logits)) != self.needs_teacher:
            raise ValueError(
                f"objective {self.name!r} needs a teacher; pass teacher_logits=[...] with one "
                f"(rows, classes) tensor per teacher"
                if self.needs_teacher
                else f"objective {self.name!r} has no use for teacher_logits; those that have: "
                f"{', '.join(taught_objectives())}"
            )
        for number, tensor in enumerate(logits):
            self._check_shape(f"logits of teacher {number}", tensor, target)
        return Predictions([tensor.detach() for tensor in logits]) if len(logits) else None

    def _check_shape(self, what: str, tensor: Tensor, target: Tensor) -> None:
        expected = (target.shape[0], self.num_classes)
        if tuple(tensor.shape) != expected:
            raise ValueError(
                f"{what} have shape {tuple(tensor.shape)}, expected {expected} "
                f"(rows of the target, num_classes)"
            )


OBJECTIVES: Dict[str, Type[Objective]] = {}


def register_objective(name: str) -> Callable[[Type[Objective]], Type[Objective]]:
    """Class decorator that makes an objective available as ``--kd-objective name``.

    Raises:
        ValueError: The name is taken by another class.
    """

    def register(cls: Type[Objective]) -> Type[Objective]:
        known = OBJECTIVES.get(name)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise ValueError(f"objective {name!r} is registered twice: {known} and {cls}")
        cls.name = name
        OBJECTIVES[name] = cls
        return cls

    return register


def find_objective(name: str) -> Type[Objective]:
    """The objective class of that name.

    Raises:
        ValueError: There is none; the message lists the known ones.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}; choose one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]


def taught_objectives() -> List[str]:
    """Names of the objectives that need a teacher."""
    return [name for name, cls in OBJECTIVES.items() if cls.needs_teacher]


def option_names(cls: Type[Objective]) -> List[str]:
    """Names of an objective's options, in order of declaration."""
    return [option.name for option in dataclasses.fields(cls.Config)]


def check_options(name: str, options: Dict[str, Any]) -> None:
    """Refuses options that objective ``name`` does not have.

    Raises:
        ValueError: Names the option, and the objectives that have it.
    """
    own = option_names(find_objective(name))
    for option in options:
        if option in own:
            continue
        owners = [other for other, cls in OBJECTIVES.items() if option in option_names(cls)]
        verb = "has" if len(owners) == 1 else "have"
        hint = f"; only {', '.join(owners)} {verb} it" if owners else ""
        raise ValueError(
            f"objective {name!r} has no option {option!r}{hint}; "
            f"its options are: {', '.join(own) or 'none'}"
        )


def build_objective(
    name: str,
    tree: Union[str, Tree],
    feature_dim: int,
    num_classes: int,
    label_smoothing: float = 0.0,
    trunk_dim: Optional[int] = None,
    fusion: FusionModules = ROWS,
    leaf_dims: Optional[Sequence[int]] = None,
    **options: Any,
) -> Objective:
    """Builds an objective by name, with the published value for every option left out.

    Args:
        name: A registered name, for instance ``"tsa"``.
        tree: A `Tree`, or a notation such as ``"0(1,1,1,1)"``.
        feature_dim: Width of a leaf's features.
        num_classes: Number of classes.
        label_smoothing: Mass taken from the true class in the task losses.
        trunk_dim: Width of the trunk's features; unset, that of a leaf's.
        fusion: Building blocks for trainable parts, by the kind of features.
        leaf_dims: Width of each leaf's features; unset, all are alike.
        **options: The objective's options (the command line's flags without ``--kd-``).

    Raises:
        ValueError: Unknown objective or option, malformed tree, or a value out of range.
    """
    cls = find_objective(name)
    check_options(name, options)
    parsed = tree if isinstance(tree, Tree) else Tree.parse(tree)
    return cls(
        parsed,
        feature_dim,
        num_classes,
        label_smoothing=label_smoothing,
        trunk_dim=trunk_dim,
        fusion=fusion,
        leaf_dims=leaf_dims,
        **options,
    )


def total(terms: LossTerms) -> Tensor:
    """The loss: the plain sum of all terms."""
    return torch.stack([term.reshape(()) for term in terms.values()]).sum()
