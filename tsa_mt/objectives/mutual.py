"""Cross-entropy of every leaf plus pairwise KL, with its gradient in closed form.

Several methods have one loss with other numbers in it (`Mutual`)::

    L = c sum_k CE(z_k, y)  +  d sum_k sum_{j != k} KL(q_j || q_k),    q_k = softmax(z_k / T)

With K leaves, ``m = 1/K sum_k z_k`` and ``e_k = <q_k, z_k - m>`` the normalisers cancel::

    sum_k sum_{j != k} KL(q_j || q_k) = K/T sum_k e_k
    d/dz_k  =  K/T^2 [ q_k (z_k - m - e_k + T) - T/K sum_j q_j ]      (nothing detached)
    d/dz_k  =  K/T [ q_k - 1/K sum_j q_j ]                            (the targets detached)

`mutual_function` returns one function that gives the loss, this gradient and the figures that are
logged. Written leaf by leaf, it is what a compiler turns into three passes over the logits: the
maximum, the sums, the gradient. Uncompiled it is slow. The objectives' own ``terms`` are the twin
that runs where nothing is compiled, and the reference in the tests.

An objective whose terms are such a loss says so in a method ``mutual(self)`` that returns the
numbers, or ``None``. The term after ``task`` in its `gradients` is the KL.
"""

from collections.abc import Callable
from types import FunctionType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tsa_mt.objectives.functional import smoothing_weights

LARGEST_POWER = 4
"""``exp(x)`` is ``exp(x / T)`` to the T up to this temperature: products are cheaper than exp."""


class Mutual(NamedTuple):
    """The numbers of a mutual loss.

    Attributes:
        task: ``c``, the factor of every leaf's cross-entropy.
        divergence: ``d``, the factor of the sum of KL over ordered pairs; 0 leaves it out.
        temperature: ``T`` of the distributions in the KL.
        detach: Whether the targets ``q_j`` get no gradient.
    """

    task: float = 1.0
    divergence: float = 0.0
    temperature: float = 1.0
    detach: bool = False


class MutualSums(NamedTuple):
    """What one chunk gives; sums over its rows.

    Attributes:
        task: The weighted task losses of all leaves, a scalar.
        divergence: The weighted KL, a scalar.
        nll: ``(leaves,)`` negative log-likelihoods.
        smoothed: The leader's label-smoothed cross-entropy, a scalar.
        correct: Rows on which the leader's first largest logit is the target's, a scalar.
        gradient: ``(leaves, rows, classes)`` of ``task + divergence`` with respect to the logits,
            in their type.
    """

    task: Tensor
    divergence: Tensor
    nll: Tensor
    smoothed: Tensor
    correct: Tensor
    gradient: Tensor


def mutual_of(objective: nn.Module, cls: type | None = None) -> Mutual | None:
    """The numbers of an objective's loss, ``None`` where it has no closed form.

    A subclass that defines any function has another formula until it gives its own ``mutual``.

    Args:
        objective: The objective.
        cls: Where to begin in its line of classes; unset, with its own.
    """
    for each in (cls or type(objective)).__mro__:
        if "mutual" in vars(each):
            return each.mutual(objective)
        if any(isinstance(value, (FunctionType, property)) for value in vars(each).values()):
            break
    return None


def mutual_function(loss: Mutual, smoothing: float) -> Callable[[Tensor, Tensor], MutualSums]:
    """The function of ``(leaves, rows, classes)`` logits and ``(rows,)`` targets.

    Args:
        loss: The numbers of the loss.
        smoothing: Mass taken from the true class in the task losses, in [0, 1).
    """

    def function(logits: Tensor, target: Tensor) -> MutualSums:
        classes = logits.shape[-1]
        rest, true = smoothing_weights(smoothing, classes)
        wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
        leaves = [leaf.to(wide) for leaf in logits.unbind(0)]
        column = torch.arange(classes, dtype=wide, device=logits.device)  # exact below 2**24
        index = target.unsqueeze(-1)
        soft = [_Soft(leaf, loss.temperature) for leaf in leaves]
        mean = sum(leaves[1:], leaves[0]) / len(leaves)
        of_target = [leaf.gather(-1, index).squeeze(-1) for leaf in leaves]
        nll = [one.normaliser - value for one, value in zip(soft, of_target)]
        smoothed = [
            true * one + rest * (classes * each.normaliser - leaf.sum(-1))
            for one, each, leaf in zip(nll, soft, leaves)
        ]
        hit = (column == index).to(wide) * true + rest  # the smoothed target
        gradients = [loss.task * (one.probs - hit) for one in soft]
        gaps = []
        if loss.divergence:
            gaps = [(one.soft_probs * (leaf - mean)).sum(-1) for one, leaf in zip(soft, leaves)]
            gradients = [
                own + pull for own, pull in zip(gradients, _pulls(loss, soft, leaves, mean, gaps))
            ]
        factor = loss.divergence * len(leaves) / loss.temperature
        return MutualSums(
            task=loss.task * torch.stack(smoothed).sum(),
            divergence=factor * (torch.stack(gaps).sum() if gaps else nll[0].new_zeros(())),
            nll=torch.stack([one.sum() for one in nll]),
            smoothed=smoothed[0].sum(),
            correct=_correct(leaves[0], of_target[0], column, index),
            gradient=torch.stack([each.to(logits.dtype) for each in gradients]),
        )

    return function


class _Soft:
    """A leaf's distributions at temperature 1 and T from one exponential where that is exact."""

    def __init__(self, leaf: Tensor, temperature: float):
        largest = leaf.amax(-1, keepdim=True)
        shifted = leaf - largest
        soft = (shifted if temperature == 1.0 else shifted / temperature).exp()
        power = int(temperature) if temperature in range(1, LARGEST_POWER + 1) else 0
        plain = soft if power else shifted.exp()
        for _ in range(power - 1):
            plain = plain * soft
        total = plain.sum(-1, keepdim=True)
        self.probs = plain * total.reciprocal()
        self.soft_probs = soft * soft.sum(-1, keepdim=True).reciprocal()
        self.normaliser = (total.log() + largest).squeeze(-1)  # log sum exp, (rows,)


def _pulls(
    loss: Mutual, soft: list[_Soft], leaves: list[Tensor], mean: Tensor, gaps: list[Tensor]
) -> list[Tensor]:
    """The gradient of the weighted KL with respect to each leaf's logits."""
    count, temperature = len(leaves), loss.temperature
    common = sum(one.soft_probs for one in soft) / count
    if loss.detach:
        factor = loss.divergence * count / temperature
        return [factor * (one.soft_probs - common) for one in soft]
    factor = loss.divergence * count / temperature**2
    return [
        factor
        * (one.soft_probs * (leaf - mean - gap.unsqueeze(-1) + temperature) - temperature * common)
        for one, leaf, gap in zip(soft, leaves, gaps)
    ]


def _correct(leader: Tensor, of_target: Tensor, column: Tensor, index: Tensor) -> Tensor:
    """Rows of which no class is ahead of the target: larger, or as large and earlier."""
    value = of_target.unsqueeze(-1)
    ahead = (leader > value) | ((leader == value) & (column < index))
    return (ahead.to(leader.dtype).amax(-1) == 0).sum()
