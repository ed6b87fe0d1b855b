"""Building blocks of an objective's trainable parts, by the kind of features they read.

Rows (tokens of text) are fused by linear maps and layer norms, position by position, so that no
token sees another one. Feature maps of images take 1x1 convolutions, pooling and batch norms.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class FusionModules:
    """Builders of fusion modules for one kind of features.

    Attributes:
        merge: ``merge(first, second)`` turns features of these two widths into one of the second:
            ``module(first, second)``.
        gate: ``gate(dim, outputs)`` turns a feature into non-negative weights ``(..., outputs)``
            that sum to 1.
        trunk_gate: The same for the trunk's hidden state, which no norm has seen.
    """

    merge: Callable[[int, int], nn.Module]
    gate: Callable[[int, int], nn.Module]
    trunk_gate: Callable[[int, int], nn.Module]


class RowMerge(nn.Module):
    """``LayerNorm(W [first; second] + b)``, row by row, as wide as the second."""

    def __init__(self, first: int, second: int):
        super().__init__()
        self.linear = nn.Linear(first + second, second)
        self.norm = nn.LayerNorm(second)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Merges ``(..., first)`` and ``(..., second)`` features into one."""
        merged: Tensor = self.norm(self.linear(torch.cat([first, second], dim=-1)))
        return merged


class RowGate(nn.Module):
    """``softmax(ReLU(W f + b))``, row by row; the softmax in float32 or wider."""

    def __init__(self, dim: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(dim, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Weights ``(..., outputs)`` of features ``(..., dim)``."""
        return softmax(torch.relu(self.linear(features)))


def softmax(scores: Tensor) -> Tensor:
    """Softmax over the last dimension, never in half precision."""
    wide = torch.float64 if scores.dtype == torch.float64 else torch.float32
    return torch.softmax(scores, dim=-1, dtype=wide)


def _row_trunk_gate(dim: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(dim), RowGate(dim, outputs))


ROWS = FusionModules(merge=RowMerge, gate=RowGate, trunk_gate=_row_trunk_gate)
"""Fusion of tokens."""


def gate_statistics(gates: Mapping[str, Tensor], leaves: int) -> dict[str, Tensor]:
    """Weights that gates give to the leaves, for logging.

    Args:
        gates: Outputs of `Objective.fuse`: ``(rows, mixtures, leaves)`` by name, with one more
            dimension for several passes.
        leaves: Number of all leaves.

    Returns:
        Sums over rows, averaged over passes, by fixed names: ``gate_NAME_bK`` is the weight of leaf
        K, ``gate_NAME_J_bK`` that in mixture J where there are several. Leaves and mixtures count
        so that the last is the last leaf's.
    """
    sums: dict[str, Tensor] = {}
    for name, gate in gates.items():
        weights = gate.detach().float().sum(0)
        weights = weights.mean(-1) if weights.dim() == 3 else weights  # mixtures x leaves
        mixtures, columns = weights.shape
        for row, column in itertools.product(range(mixtures), range(columns)):
            mixture = f"_{leaves - mixtures + row}" if mixtures > 1 else ""
            sums[f"gate_{name}{mixture}_b{leaves - columns + column}"] = weights[row, column]
    return sums
