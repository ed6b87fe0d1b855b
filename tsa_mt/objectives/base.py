"""The contract of an objective, and the registry of all of them.

An objective says what the leaves of a tree learn. It is an ``nn.Module`` with two halves:

* `Objective.fuse` owns whatever is trainable (attention, gates, fusion blocks). The model holds the
  objective under ``branches`` and runs this half inside its forward.
* `Objective.terms` has no parameters. It turns logits and targets into named sums over rows; the
  values are weighted already, so that their plain sum is the loss. It must be additive over rows:
  the head evaluates it on chunks.

Write a subclass, give it a frozen config dataclass whose defaults are the published ones, register
it, and it has command-line options, tests and documentation.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Type, Union

import torch
from torch import Tensor, nn

from tsa_mt.branches import Predictions
from tsa_mt.objectives.functional import cross_entropy
from tsa_mt.tree import Tree

LossTerms = Dict[str, Tensor]
"""Named, weighted sums over rows; the loss is their plain sum."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """Options of an objective; every field has a default (the published value) and a help text."""


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


class Objective(nn.Module):
    """Base class of all objectives; see the module's docstring for the contract.

    Args:
        tree: The tree whose leaves learn together.
        feature_dim: Width of a leaf's features.
        num_classes: Number of classes (the target vocabulary).
        label_smoothing: Used by the standalone call only; a criterion passes its own.
        **options: Fields of ``Config``.

    Attributes:
        Config: Frozen dataclass of the options.
        name: Registered name.
        default_tree: Preset used when no tree is given.
        needs_teacher: Whether `terms` reads the teachers' logits from its context.
        needs_bridge: Whether one more branch grows out of the teacher; its logits come last.
    """

    Config: Type[ObjectiveConfig] = ObjectiveConfig
    name: str = ""
    default_tree: str = "tsa"
    needs_teacher: bool = False
    needs_bridge: bool = False

    def __init__(
        self,
        tree: Tree,
        feature_dim: int,
        num_classes: int,
        label_smoothing: float = 0.0,
        **options: Any,
    ):
        super().__init__()
        self.tree = tree
        self.feature_dim = feature_dim
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.config = self.Config(**options)

    @property
    def leaves(self) -> int:
        """Number of leaves: those of the tree, and the bridge where there is one."""
        return len(self.tree.leaves) + self.needs_bridge

    def fuse(self, features: Sequence[Tensor]) -> Dict[str, Tensor]:
        """Computes the objective's trainable gates from the leaves' features.

        Args:
            features: One ``(..., feature_dim)`` tensor per leaf, the leader first.

        Returns:
            Named tensors whose leading dimensions are those of the features; empty by default.
        """
        return {}

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
    ) -> LossTerms:
        """The standalone call: both halves at once, for a plain PyTorch training loop.

        Args:
            logits: One ``(rows, classes)`` tensor per leaf, the leader first.
            target: ``(rows,)`` class indices.
            features: One ``(rows, feature_dim)`` tensor per leaf, for objectives that fuse them.
            progress: Fraction of the ramp-up that is done, in [0, 1].
            teacher_logits: One ``(rows, classes)`` tensor per frozen teacher, for objectives that
                have them; they get no gradient.

        Returns:
            Named, weighted sums over rows; ``sum(terms.values()) / rows`` is the usual loss.

        Raises:
            ValueError: The number of leaves or the shapes do not fit the tree, or teachers are
                missing or out of place.
        """
        self._check_standalone(logits, target)
        teacher = self._check_teachers(teacher_logits or (), target)
        gates = {} if features is None else self.fuse(features)
        context = Context(progress, self.label_smoothing, teacher)
        return self.terms(Predictions(logits), target, gates, context)

    def task_losses(self, predictions: Predictions, target: Tensor, context: Context) -> Tensor:
        """Label-smoothed cross-entropy per leaf, ``(leaves,)``, summed over rows."""
        return cross_entropy(predictions.log_probs(), target, context.label_smoothing)

    def _check_standalone(self, logits: Sequence[Tensor], target: Tensor) -> None:
        if len(logits) != self.leaves:
            raise ValueError(
                f"objective {self.name!r} got logits of {len(logits)} leaves, but tree "
                f"'{self.tree}' has {self.leaves}; pass one (rows, classes) tensor per leaf"
            )
        for leaf, tensor in enumerate(logits):
            self._check_shape(f"logits of leaf {leaf}", tensor, target)

    def _check_teachers(self, logits: Sequence[Tensor], target: Tensor) -> Optional[Predictions]:
        if bool(len(logits)) != self.needs_teacher:
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
        hint = f"; only {', '.join(owners)} has it" if owners else ""
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
    **options: Any,
) -> Objective:
    """Builds an objective by name, with the published value for every option left out.

    Args:
        name: A registered name, for instance ``"tsa"``.
        tree: A `Tree`, or a notation such as ``"0(1,1,1,1)"``.
        feature_dim: Width of a leaf's features.
        num_classes: Number of classes.
        label_smoothing: Mass taken from the true class in the task losses.
        **options: The objective's options (the command line's flags without ``--kd-``).

    Raises:
        ValueError: Unknown objective or option, malformed tree, or a value out of range.
    """
    cls = find_objective(name)
    check_options(name, options)
    parsed = tree if isinstance(tree, Tree) else Tree.parse(tree)
    return cls(parsed, feature_dim, num_classes, label_smoothing=label_smoothing, **options)


def require(condition: bool, option: str, value: Any, allowed: str) -> None:
    """Checks a config value.

    Raises:
        ValueError: With the option's name, the value and what is allowed.
    """
    if not condition:
        raise ValueError(f"option {option!r} is {value!r}; it must be {allowed}")


def total(terms: LossTerms) -> Tensor:
    """The loss: the plain sum of all terms."""
    return torch.stack([term.reshape(()) for term in terms.values()]).sum()
