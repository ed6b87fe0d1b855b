"""Pure functions that objectives are made of: losses, divergences, ramp-ups.

All take log-probabilities ``(leaves, rows, classes)`` and return sums over rows, unless they say
otherwise. Those that run over every class of every leaf have hand-written first derivatives: they
touch the ``rows x classes`` block about half as often as autograd would, and have no second ones.
"""

import math
from typing import Dict, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def log_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``log softmax(logits / temperature)`` over the last dimension, in float32 or float64."""
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    scaled = logits if temperature == 1.0 else logits.to(dtype) / temperature
    return torch.log_softmax(scaled, dim=-1, dtype=dtype)


class _SmoothedCrossEntropy(torch.autograd.Function):
    """Label-smoothed cross-entropy of every leaf; see `cross_entropy`."""

    @staticmethod
    def forward(ctx, log_probs: Tensor, target: Tensor, smoothing: float) -> Tensor:
        rest, true = smoothing_weights(smoothing, log_probs.shape[-1])
        index = target.expand(log_probs.shape[0], -1).unsqueeze(-1)
        ctx.save_for_backward(index)
        ctx.shape, ctx.weights = log_probs.shape, (rest, true)
        return _smoothed_loss(log_probs, index, rest, true)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        rest, true = ctx.weights
        scale = -grad[:, None, None]
        out = (scale * rest).expand(ctx.shape).clone()
        out.scatter_add_(-1, index, (scale * true).expand(index.shape))
        return out, None, None


def smoothing_weights(smoothing: float, classes: int) -> Tuple[float, float]:
    """Weights of every class's and of the true class's log-probability, as fairseq defines them."""
    rest = smoothing / (classes - 1) if smoothing else 0.0
    return rest, 1.0 - smoothing - rest


def _smoothed_loss(log_probs: Tensor, index: Tensor, rest: float, true: float) -> Tensor:
    loss = -true * log_probs.gather(-1, index).squeeze(-1).sum(-1)
    return loss - rest * log_probs.sum((-2, -1)) if rest else loss


def cross_entropy(log_probs: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Label-smoothed cross-entropy per leaf, summed over rows.

    The smoothed target gives ``1 - smoothing`` to the true class and spreads ``smoothing`` over the
    others, exactly as fairseq's ``label_smoothed_nll_loss`` does.

    Args:
        log_probs: ``(leaves, rows, classes)`` log-probabilities at temperature 1.
        target: ``(rows,)`` class indices.
        smoothing: Mass taken from the true class, in [0, 1).

    Returns:
        ``(leaves,)`` sums over rows, in nats.
    """
    return _SmoothedCrossEntropy.apply(log_probs, target, smoothing)


class _LogitCrossEntropy(torch.autograd.Function):
    """Cross-entropy that answers for the softmax below it; see `cross_entropy_of_logits`."""

    @staticmethod
    def forward(ctx, logits: Tensor, log_probs: Tensor, target: Tensor, smoothing: float) -> Tensor:
        rest, true = smoothing_weights(smoothing, log_probs.shape[-1])
        index = target.expand(log_probs.shape[0], -1).unsqueeze(-1)
        ctx.save_for_backward(log_probs, index)
        ctx.weights, ctx.dtype = (rest, true), logits.dtype
        return _smoothed_loss(log_probs, index, rest, true)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Tensor, None, None, None]:
        log_probs, index = ctx.saved_tensors
        rest, true = ctx.weights
        out = log_probs.exp()  # d/dz = softmax(z) - smoothed target
        if rest:
            out.sub_(rest)
        out.scatter_add_(-1, index, out.new_full((), -true).expand(index.shape))
        return out.mul_(grad[:, None, None]).to(ctx.dtype), None, None, None


def cross_entropy_of_logits(
    logits: Tensor, log_probs: Tensor, target: Tensor, smoothing: float = 0.0
) -> Tensor:
    """`cross_entropy` whose gradient goes straight to the logits, at about half the cost.

    Args:
        logits: ``(leaves, rows, classes)``.
        log_probs: Their log-probabilities at temperature 1; no gradient flows through them.
        target: ``(rows,)`` class indices.
        smoothing: Mass taken from the true class, in [0, 1).

    Returns:
        ``(leaves,)`` sums over rows, in nats.
    """
    return _LogitCrossEntropy.apply(logits, log_probs.detach(), target, smoothing)


class _PairwiseKL(torch.autograd.Function):
    """Sum over all ordered pairs of leaves of KL(p_j || p_k); see `pairwise_kl`.

    With ``p_k = softmax(z_k / T)`` the normalisers of all leaves cancel in the sum, and K passes do
    for K^2 pairs: ``K/T sum_k <p_k, z_k - mean_j z_j>``.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, detach: bool, temperature: float) -> Tensor:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        probs = torch.softmax(wide if temperature == 1.0 else wide / temperature, -1)
        gaps = torch.sub(wide, wide.mean(0))
        expected = _row_products(probs, gaps)
        ctx.detach, ctx.temperature, ctx.dtype = detach, temperature, logits.dtype
        ctx.save_for_backward(probs, *([] if detach else [gaps, expected]))
        return expected.sum() * (len(logits) / temperature)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Tensor, None, None]:
        probs, *kept = ctx.saved_tensors  # once: a checkpoint unpacks them a single time
        leaves, temperature = len(probs), ctx.temperature
        if ctx.detach:
            # leaf k imitates every other leaf j: d/dz_k sum_j KL(p_j || p_k) = K/T (p_k - mean p)
            out, scale = torch.sub(probs, probs.mean(0)), leaves / temperature
        else:
            gaps, expected = kept
            out = torch.sub(gaps, expected - temperature).mul_(probs)
            out.sub_(probs.mean(0).mul_(temperature))
            scale = leaves / temperature**2
        return out.mul_(grad * scale).to(ctx.dtype), None, None


def _row_products(left: Tensor, right: Tensor) -> Tensor:
    """Inner products over classes, ``(leaves, rows, 1)``."""
    leaves, rows, classes = left.shape
    products = torch.bmm(left.reshape(-1, 1, classes), right.reshape(-1, classes, 1))
    return products.view(leaves, rows, 1)


def pairwise_kl(logits: Tensor, detach: bool = False, temperature: float = 1.0) -> Tensor:
    """``sum_k sum_{j != k} KL(p_j || p_k)`` over all ordered pairs of leaves, summed over rows.

    Args:
        logits: ``(leaves, rows, classes)``; log-probabilities are logits too.
        detach: Whether the target ``p_j`` of each term gives no gradient. Without it the sum is
            symmetric (a Jeffreys divergence) and the direction of each KL is void.
        temperature: ``p_k = softmax(logits_k / temperature)``.

    Returns:
        A scalar in nats, in float32 or float64.
    """
    return _PairwiseKL.apply(logits, detach, temperature)


def kl_divergence(log_target: Tensor, log_probs: Tensor) -> Tensor:
    """``KL(target || probs)`` summed over everything but the last dimension's expectation.

    Args:
        log_target: Log-probabilities of the distribution that is imitated, ``(..., classes)``.
        log_probs: Log-probabilities of the one that imitates, ``(..., classes)``.

    Returns:
        A scalar in nats, differentiable in both arguments.
    """
    return (log_target.exp() * (log_target - log_probs)).sum()


def imitation(log_target: Tensor, log_probs: Tensor) -> Tensor:
    """``KL(target || p_k)`` of every leaf to one fixed target, summed over rows.

    Args:
        log_target: Log-probabilities ``(rows, classes)`` of the target; it gets no gradient.
        log_probs: ``(leaves, rows, classes)`` log-probabilities of those that imitate it.

    Returns:
        ``(leaves,)`` sums in nats.
    """
    log_target = log_target.detach().to(log_probs.dtype)
    gaps = log_target - log_probs  # leaves x rows x classes
    return gaps.flatten(1) @ log_target.exp().flatten()


def mean_probability(log_probs: Tensor) -> Tensor:
    """Log of the mean probability over the first dimension, ``(rows, classes)``."""
    if log_probs.shape[0] == 1:
        return log_probs[0]
    return log_probs.logsumexp(0) - math.log(log_probs.shape[0])


class _PairedKL(torch.autograd.Function):
    """KL of chosen pairs of distributions; see `paired_kl`."""

    @staticmethod
    def forward(ctx, pairs: Tuple[Tuple[int, int], ...], *blocks: Tensor) -> Tensor:
        logs = [log for block in blocks for log in block]  # rows x classes each
        probs = {target: logs[target].exp() for target, _ in pairs}
        ctx.pairs, ctx.sizes = pairs, [len(block) for block in blocks]
        ctx.save_for_backward(*blocks, *probs.values())
        gap = torch.empty_like(logs[0])
        values = [
            torch.dot(probs[u].flatten(), torch.sub(logs[u], logs[v], out=gap).flatten())
            for u, v in pairs
        ]
        return torch.stack(values)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        saved = ctx.saved_tensors  # once: a checkpoint unpacks only once
        blocks = saved[: len(ctx.sizes)]
        targets = dict.fromkeys(target for target, _ in ctx.pairs)
        probs = dict(zip(targets, saved[len(ctx.sizes) :]))
        edges = [(u, v, scale) for (u, v), scale in zip(ctx.pairs, grad.unbind())]
        logs = [log for block in blocks for log in block]
        outs = [
            torch.empty_like(block) if need else None
            for block, need in zip(blocks, ctx.needs_input_grad[1:])
        ]
        slots = [
            (None if out is None else out[number])
            for out, size in zip(outs, ctx.sizes)
            for number in range(size)
        ]
        for number, slot in enumerate(slots):
            if slot is not None:
                _write_kl_gradient(number, slot, edges, logs, probs)
        return (None, *outs)


def _write_kl_gradient(
    number: int,
    out: Tensor,
    edges: Sequence[Tuple[int, int, Tensor]],
    logs: Sequence[Tensor],
    probs: Dict[int, Tensor],
) -> None:
    """Writes the gradient of ``sum g KL(u || v)`` over edges ``(u, v, g)`` into one distribution's.

    As a target it gets ``p (sum_v g (log p - log q_v) + g)``, as a student ``- sum_u g p_u``. The g
    stay tensors: numbers would make the host wait for the device.
    """
    taught = [(v, scale) for u, v, scale in edges if u == number]
    if taught:
        torch.add(logs[number], 1.0, out=out).mul_(sum(scale for _, scale in taught))
        for student, scale in taught:
            out.addcmul_(logs[student], scale, value=-1)
        out.mul_(probs[number])
    else:
        out.zero_()
    for target, student, scale in edges:
        if student == number:
            out.addcmul_(probs[target], scale, value=-1)


def paired_kl(pairs: Sequence[Tuple[int, int]], *blocks: Tensor) -> Tensor:
    """``KL(p_target || p_student)`` of chosen pairs of distributions, each summed over rows.

    Args:
        pairs: ``(target, student)`` numbers; distributions are counted through all blocks.
        *blocks: ``(distributions, rows, classes)`` log-probabilities. Hand over a detached block
            for targets that shall get no gradient.

    Returns:
        ``(pairs,)`` sums in nats.
    """
    return _PairedKL.apply(tuple(pairs), *blocks)


class _Mixture(torch.autograd.Function):
    """Row-wise linear combinations of the leaves; see `mixture`."""

    @staticmethod
    def forward(ctx, values: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(values, weights)
        return _combine(values, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], Optional[Tensor]]:
        values, weights = ctx.saved_tensors
        out, out_weights = None, None
        if ctx.needs_input_grad[0]:
            out = _combine(grad, weights.transpose(1, 2)).to(values.dtype)
        if ctx.needs_input_grad[1]:
            # rows x mixtures x classes @ rows x classes x leaves
            products = torch.bmm(grad.transpose(0, 1), values.to(grad.dtype).permute(1, 2, 0))
            out_weights = products.to(weights.dtype)
        return out, out_weights


def _combine(values: Tensor, weights: Tensor) -> Tensor:
    """``out[m, r] = sum_l weights[r, m, l] values[l, r]``, in the wider type of both."""
    dtype = torch.promote_types(values.dtype, weights.dtype)
    # rows x mixtures x leaves @ rows x leaves x classes
    mixed = torch.bmm(weights.to(dtype), values.to(dtype).transpose(0, 1))
    return mixed.transpose(0, 1).contiguous()


def mixture(values: Tensor, weights: Tensor) -> Tensor:
    """Linear combinations of the leaves' logits (or probabilities) with weights of every row.

    Args:
        values: ``(leaves, rows, classes)``.
        weights: ``(rows, mixtures, leaves)`` in float32 or float64.

    Returns:
        ``(mixtures, rows, classes)`` in the wider of both types.
    """
    return _Mixture.apply(values, weights)


def log_mixture(log_probs: Tensor, weights: Tensor) -> Tensor:
    """Log of mixtures of the leaves' distributions with weights of every row.

    Args:
        log_probs: ``(leaves, rows, classes)``.
        weights: ``(rows, mixtures, leaves)``; non-negative, summing to 1 over leaves.

    Returns:
        ``(mixtures, rows, classes)``; a probability that underflows counts as the smallest number.
    """
    mixed = mixture(log_probs.exp(), weights)
    return mixed.clamp_min(torch.finfo(mixed.dtype).tiny).log()


def mean_of_others(logits: Tensor) -> Tensor:
    """For every leaf the mean of the other leaves' logits, in float32 or wider.

    Args:
        logits: ``(leaves, rows, classes)`` of at least two leaves.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return (wide.sum(0) - wide) / (logits.shape[0] - 1)


def kl_to_mean_of_others(
    logits: Tensor, log_probs: Tensor, temperature: float, detach: bool
) -> Tensor:
    """``sum_k KL(softmax(m_k / T) || softmax(z_k / T))``, ``m_k`` the mean logit of the others.

    Args:
        logits: ``(leaves, rows, classes)`` of at least two leaves.
        log_probs: Their log-probabilities at the temperature.
        temperature: ``T``.
        detach: Whether the targets get no gradient.

    Returns:
        A scalar in nats.
    """
    targets = log_softmax(mean_of_others(logits.detach() if detach else logits), temperature)
    leaves = logits.shape[0]
    pairs = [(leaf, leaves + leaf) for leaf in range(leaves)]
    return paired_kl(pairs, targets, log_probs).sum()


def gaussian_rampup(progress: float) -> float:
    """``exp(-5 (1 - progress)^2)``, the ramp-up of Laine and Aila (ICLR 2017).

    Args:
        progress: Fraction of the ramp that is done; values outside [0, 1] are clipped.
    """
    return math.exp(-5.0 * (1.0 - min(max(progress, 0.0), 1.0)) ** 2)


def agreement(predicted: Tensor) -> Tensor:
    """Number of rows on which two leaves predict the same class, averaged over pairs of leaves.

    Args:
        predicted: ``(leaves, rows)`` class indices.

    Returns:
        A scalar between 0 and ``rows``; ``rows`` when there is only one leaf.
    """
    leaves, rows = predicted.shape
    if leaves == 1:
        return predicted.new_tensor(rows, dtype=torch.float32)
    same = (predicted[:, None] == predicted[None]).sum(dtype=torch.float32)
    return (same - leaves * rows) / (leaves * (leaves - 1))


def mean_pairwise_kl(log_probs: Tensor) -> Tensor:
    """KL between two leaves, averaged over ordered pairs and summed over rows (0 for one leaf)."""
    leaves = log_probs.shape[0]
    return pairwise_kl(log_probs) / max(1, leaves * (leaves - 1))
