"""What a tree model hands to a criterion: features per leaf, projections and their predictions.

A *row* is one prediction to make: a target token of a translation, or an image. Everything below
the model works on rows and knows neither padding nor time.
"""

from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

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

    def split(self, passes: int) -> List["BranchOutputs"]:
        """Takes a batch that holds several dropout passes one after another apart."""
        if passes == 1:
            return [self]
        features = [feature.chunk(passes) for feature in self.features]
        maps = [fmap.chunk(passes) for fmap in self.maps or ()]
        return [
            BranchOutputs(
                [chunks[number] for chunks in features],
                trunk=None if self.trunk is None else self.trunk.chunk(passes)[number],
                maps=[chunks[number] for chunks in maps] or None,
            )
            for number in range(passes)
        ]

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
    def forward(ctx, tensor: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tuple[Tensor, None]:
        return grad * ctx.factor, None


def scale_gradient(tensor: Tensor, factor: float) -> Tensor:
    """The same tensor; the gradient that flows back through it is multiplied by ``factor``."""
    return _ScaledGradient.apply(tensor, factor)


def join_passes(passes: Sequence[BranchOutputs]) -> BranchOutputs:
    """One `BranchOutputs` for several dropout passes over the same rows.

    Features are those of pass 1, then of pass 2; the gates of pass p get the suffix ``@p``.
    """
    if len(passes) == 1:
        return passes[0]
    return BranchOutputs(
        features=[feature for outputs in passes for feature in outputs.features],
        gates={
            f"{name}@{number}": gate
            for number, outputs in enumerate(passes)
            for name, gate in outputs.gates.items()
        },
    )


def gates_of_pass(gates: Dict[str, Tensor], number: int) -> Dict[str, Tensor]:
    """The gates that `join_passes` took from pass ``number``, under their own names."""
    suffix = f"@{number}"
    return {n.removesuffix(suffix): gate for n, gate in gates.items() if n.endswith(suffix)}


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


class Predictions:
    """Logits of all leaves for some rows, with log-probabilities computed once per temperature.

    Args:
        logits: ``(leaves, rows, classes)``, or one ``(rows, classes)`` tensor per leaf.
    """

    def __init__(self, logits):
        self.logits: Tensor = logits if isinstance(logits, Tensor) else torch.stack(list(logits))
        self._log_probs: Dict[float, Tensor] = {}

    @property
    def leaves(self) -> int:
        """Number of leaves."""
        return self.logits.shape[0]

    def split(self, passes: int) -> List["Predictions"]:
        """The predictions of every dropout pass; log-probabilities are still computed once."""
        parts = self.logits.chunk(passes)
        return [_Pass(self, logits, number, passes) for number, logits in enumerate(parts)]

    def log_probs(self, temperature: float = 1.0) -> Tensor:
        """``log softmax(logits / temperature)``, ``(leaves, rows, classes)``.

        Half precision is raised to float32; float64 stays float64.
        """
        if temperature not in self._log_probs:
            self._log_probs[temperature] = log_softmax(self.logits, temperature)
        return self._log_probs[temperature]


class _Pass(Predictions):
    """The share of one dropout pass in the predictions of all passes."""

    def __init__(self, whole: Predictions, logits: Tensor, number: int, passes: int):
        super().__init__(logits)
        self._whole, self._number, self._passes = whole, number, passes

    def log_probs(self, temperature: float = 1.0) -> Tensor:
        return self._whole.log_probs(temperature).chunk(self._passes)[self._number]


def log_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``log softmax(logits / temperature)`` over the last dimension, in float32 or float64."""
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    scaled = logits if temperature == 1.0 else logits.to(dtype) / temperature
    return torch.log_softmax(scaled, dim=-1, dtype=dtype)


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
