"""What the rooms ask of each other, as protocols: no class has to derive from them."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor, nn

from tsa_mt.branches import BranchOutputs, Projection, TeacherOutputs
from tsa_mt.objectives.base import Objective
from tsa_mt.tree import Tree


class TreeModel(Protocol):
    """The criterion's view of a model whose leaves learn together.

    Attributes:
        num_updates: Number of updates done.
    """

    num_updates: int

    @property
    def tree(self) -> Tree:
        """The tree of its layers."""

    @property
    def objective(self) -> Objective:
        """The leaves' objective."""

    @property
    def projections(self) -> list[Projection]:
        """The projection of every feature that `__call__` returns, but the bridge's."""

    @property
    def bridge_projection(self) -> Projection | None:
        """The bridge's own projection; ``None`` where it ends in its teacher's."""

    def __call__(self, *, branches: bool, **net_input: Any) -> BranchOutputs:
        """Runs every node of the tree and the objective's trainable parts."""

    def averaged_teachers(self, net_input: dict[str, Tensor]) -> TeacherOutputs:
        """Features of the averaged leaves for a batch, to be asked for before `__call__`."""

    def deciding_together(self) -> AbstractContextManager[None]:
        """Lets all leaves decode together for a while (text)."""

    def get_targets(self, sample: dict[str, Any], outputs: BranchOutputs) -> Tensor:
        """The true classes of a batch."""

    def parameters(self) -> Any:
        """As a module's."""


class Teaching(Protocol):
    """The criterion's view of a frozen teacher.

    Attributes:
        path: Where it came from, for messages.
        model: The frozen network.
    """

    path: str
    model: nn.Module

    @property
    def projection(self) -> Projection:
        """The map from its features to logits."""

    def run(self, net_input: Any, like: Tensor) -> Any:
        """Its features for a batch, as a `tsa_mt.teacher.TeacherPass`."""
