"""The contract of an objective.

An objective says what the leaves of a tree learn. It is an ``nn.Module`` with two halves:

* `Objective.fuse` owns whatever is trainable (attention, gates, fusion blocks, projections of
  leaves made of features). The model holds the objective under ``branches`` and runs this half
  inside its forward.
* `Objective.terms` has no parameters. It turns rows into named sums; the values are weighted
  already, so that their plain sum is the loss. It must be additive over rows: the head evaluates it
  on chunks.

Write a subclass, declare its options with the published values, register it, and it has
command-line options, tests and documentation.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from tsa_mt.branches import BranchOutputs, Projection
from tsa_mt.objectives import standalone
from tsa_mt.objectives.config import ObjectiveConfig, config_of
from tsa_mt.objectives.fusion import ROWS, FusionModules
from tsa_mt.objectives.rows import Context, LossTerms, Rows
from tsa_mt.tree import Tree

LEAVES = ("leader", "peers")
"""The words for a gradient that reaches the logits of every leaf."""


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
        **options: Values of the class's `Option` attributes.

    Raises:
        ValueError: The leaves' features differ in width, and the objective cannot fuse such.

    Attributes:
        Config: Frozen dataclass of the options, made of the class's `Option` attributes.
        name: Registered name.
        default_tree: Preset used when no tree is given.
        fuses_features: Whether `fuse` reads the leaves' features.
        fuses_widths: Whether it can do so where they differ in width.
        ordered: Whether the leaves but the leader are not interchangeable, by their places in the
            formula or in the shapes of trainable parts.
        rescales_shared: Whether what several leaves share gets the mean of their gradients instead
            of the sum: at every fork, and in an output projection of several leaves.
        needs_teacher: Whether `terms` reads frozen teachers in `Rows.teacher`.
        needs_bridge: Whether one more branch grows out of the teacher; its logits come last.
        ships_average: Whether the averaged leader is what validates and is exported, unless another
            branch is asked for.
    """

    Config: ClassVar[type[ObjectiveConfig]] = ObjectiveConfig
    name: ClassVar[str] = ""
    default_tree: ClassVar[str] = "tsa"
    fuses_features: ClassVar[bool] = False
    fuses_widths: ClassVar[bool] = False
    ordered: ClassVar[bool] = False
    rescales_shared: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = False
    needs_bridge: ClassVar[bool] = False
    ships_average: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.Config = config_of(cls)

    def __init__(
        self,
        tree: Tree,
        feature_dim: int,
        num_classes: int,
        label_smoothing: float = 0.0,
        trunk_dim: int | None = None,
        fusion: FusionModules = ROWS,
        leaf_dims: Sequence[int] | None = None,
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
        self.leaves = len(tree.leaves) + self.needs_bridge  # the bridge is one of them
        self.config = self.Config(**options)
        if len(set(self.leaf_dims)) > 1 and self.fuses_features and not self.fuses_widths:
            widths = ", ".join(map(str, self.leaf_dims))
            raise ValueError(
                f"objective {self.name!r} fuses features of one width, but the leaves of tree "
                f"'{self.tree}' have {widths}; make its branches equally deep"
            )

    @property
    def average_decay(self) -> float | None:
        """Decay per update of an averaged copy of the whole model, ``None`` for no such copy.

        The copies of the leaves are then what `Rows.teacher` holds.
        """
        return None

    def task_weight(self, context: Context) -> float:
        """Factor of the leader's task loss in the first of the `terms`."""
        return 1.0

    @property
    def projections(self) -> list[Projection]:
        """The objective's own projections, of the features that `fuse` appends."""
        return []

    @property
    def gradients(self) -> dict[str, tuple[str, ...]]:
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

    def terms(self, rows: Rows) -> LossTerms:
        """Named, weighted loss sums over rows.

        Args:
            rows: Logits, targets, gates, teachers and progress; see `Rows`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define terms(rows)")

    def forward(
        self,
        logits: Sequence[Tensor],
        target: Tensor,
        features: Sequence[Tensor] | None = None,
        progress: float = 1.0,
        teacher_logits: Sequence[Tensor] | None = None,
        trunk: Tensor | None = None,
    ) -> LossTerms:
        """The standalone call: both halves at once; see `standalone.evaluate`."""
        return standalone.evaluate(self, logits, target, features, progress, teacher_logits, trunk)
