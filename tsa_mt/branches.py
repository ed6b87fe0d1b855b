"""What a tree model hands to a criterion: features per leaf, and projections.

A *row* is one prediction to make: a target token of a translation, or an image. Everything below
the model works on rows and knows neither padding nor time.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor


@dataclass
class BranchOutputs:
    """The outputs of every leaf for one batch.

    Attributes:
        features: One tensor ``(..., dim)`` per leaf, the leader first; after the objective's `fuse`
            those of the extra leaves it made follow. All share their leading dimensions
            (``batch, length`` for text, ``batch`` for images).
        gates: What the objective's `fuse` computed, by name; leading dimensions as in ``features``.
        trunk: Hidden state after the root of the tree, which all leaves share.
        maps: Feature maps that fusion modules read instead of ``features`` (images); one per leaf.
    """

    features: List[Tensor]
    gates: Dict[str, Tensor] = field(default_factory=dict)
    trunk: Optional[Tensor] = None
    maps: Optional[List[Tensor]] = None

    def with_gate(self, name: str, gate: Tensor) -> "BranchOutputs":
        """These outputs and one more gate."""
        return replace(self, gates={**self.gates, name: gate})

    def with_leaf(self, features: Tensor) -> "BranchOutputs":
        """These outputs and the features of one more leaf, which come last."""
        return replace(self, features=[*self.features, features])

    def rows(self, keep: Tensor) -> "BranchOutputs":
        """Keeps the positions where the boolean mask ``keep`` is true, flattened to rows."""
        index = keep.nonzero(as_tuple=True)  # once: on a GPU every boolean mask would synchronise
        return BranchOutputs(
            features=[feature[index] for feature in self.features],
            gates={name: gate[index] for name, gate in self.gates.items()},
        )


@dataclass
class TeacherOutputs:
    """What frozen teachers computed for one batch; nothing in it gets a gradient.

    Attributes:
        features: One tensor ``(..., dim)`` per teacher, widths may differ; leading dimensions as in
            `BranchOutputs`.
        projections: The teachers' own maps from features to logits.
    """

    features: List[Tensor]
    projections: List["Projection"]

    def rows(self, keep: Tensor) -> "TeacherOutputs":
        """Keeps the positions where the boolean mask ``keep`` is true, flattened to rows."""
        index = keep.nonzero(as_tuple=True)
        return TeacherOutputs([feature[index] for feature in self.features], self.projections)


class _ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a number."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tuple[Tensor, None]:
        return grad * ctx.factor, None


def scale_gradient(tensor: Tensor, factor: float) -> Tensor:
    """The same tensor; the gradient that flows back through it is multiplied by ``factor``."""
    scaled: Tensor = _ScaledGradient.apply(tensor, factor)  # type: ignore[no-untyped-call]
    return scaled


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map from features to logits.

    Attributes:
        weight: ``(classes, dim)``.
        bias: ``(classes,)`` or ``None``.
    """

    weight: Tensor
    bias: Optional[Tensor] = None

    def same(self, other: "Projection") -> bool:
        """Whether both use the very same parameters (then one matrix product serves them)."""
        return self.weight is other.weight and self.bias is other.bias

    def to(self, dtype: torch.dtype) -> "Projection":
        """The same map in another type; differentiable."""
        return Projection(self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))

    def rescaled(self, factor: float) -> "Projection":
        """The same map; the gradients of its parameters are multiplied by ``factor``."""
        bias = None if self.bias is None else scale_gradient(self.bias, factor)
        return Projection(scale_gradient(self.weight, factor), bias)

    def detach(self) -> "Projection":
        """The same map without gradients."""
        return Projection(self.weight.detach(), None if self.bias is None else self.bias.detach())


def leaf_projections(
    shared: Projection, own: Mapping[str, Projection], leaves: int, mean_gradient: bool
) -> List[Projection]:
    """The projection of every leaf.

    Args:
        shared: What leaves without one of their own use, all the same object.
        own: By the leaf's number.
        leaves: How many there are.
        mean_gradient: Whether the shared one gets the mean of its leaves' gradients, not the sum.
    """
    sharing = leaves - len(own)
    if mean_gradient and sharing > 1:
        shared = shared.rescaled(1.0 / sharing)
    return [own.get(str(leaf), shared) for leaf in range(leaves)]


def group_by_projection(projections: Sequence[Projection]) -> List[Tuple[Projection, List[int]]]:
    """Leaves that share a projection, in order of first appearance."""
    groups: List[Tuple[Projection, List[int]]] = []
    for leaf, projection in enumerate(projections):
        for known, leaves in groups:
            if known.same(projection):
                leaves.append(leaf)
                break
        else:
            groups.append((projection, [leaf]))
    return groups
