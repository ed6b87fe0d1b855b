"""Dropout whose masks cost little on a CPU.

PyTorch draws one random number for every element, which takes 8 ns there and 4 to 13 % of an update
of a small Transformer. Here one 64-bit number decides four elements, and the mask is kept in bytes:
2 ns. A probability is rounded to a multiple of 1/65536. What is kept is scaled by the rounded one,
so that the expectation is exact. The masks are others than PyTorch's for the same seed.
"""

import torch
from fairseq.modules import FairseqDropout
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEVELS = 2**16


def keep_mask(size: torch.Size, dropped: int) -> Tensor:
    """A random mask on the CPU, true where an element is kept.

    Args:
        size: Of the mask.
        dropped: Probability of a false, in units of 1 / `LEVELS`.
    """
    count = size.numel()
    draws = torch.empty(-(-count // 4), dtype=torch.long).random_(-(2**63), None)
    levels = draws.view(torch.short)[:count].view(size)  # -32768 to 32767
    return levels >= dropped - LEVELS // 2


class _Dropout(torch.autograd.Function):
    """See `dropout`."""

    @staticmethod
    def forward(ctx, x: Tensor, dropped: int) -> Tensor:
        mask = keep_mask(x.shape, dropped)
        ctx.save_for_backward(mask)
        ctx.scale = LEVELS / (LEVELS - dropped)
        return _masked(x, mask, ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (mask,) = ctx.saved_tensors
        return _masked(grad, mask, ctx.scale), None


def _masked(x: Tensor, mask: Tensor, scale: float) -> Tensor:
    """``x * mask * scale`` in one pass."""
    return torch.ops.aten.native_dropout_backward(x, mask, scale)


def dropout(x: Tensor, p: float) -> Tensor:
    """``x`` with elements zeroed with probability ``p`` and the others scaled by ``1 / (1 - p)``.

    Args:
        x: On the CPU.
        p: From 0 up to, and without, 1; rounded to a multiple of 1/65536.
    """
    dropped = min(round(p * LEVELS), LEVELS - 1)
    return _Dropout.apply(x, dropped) if dropped else x


class CheapDropout(FairseqDropout):
    """fairseq's dropout with the masks of `dropout` on a CPU."""

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """See `FairseqDropout.forward`; nothing is done in place."""
        if x.device.type != "cpu" or self.p >= 1 or not self.training:
            return super().forward(x, inplace)
        return dropout(x, self.p)


def cheapen(model: nn.Module) -> None:
    """Gives all of a model's dropout modules cheap masks; a second call changes nothing."""
    for module in model.modules():
        if type(module) is FairseqDropout:
            module.__class__ = CheapDropout
