"""A world in which tensors have shapes and types but no contents, and whose device is pretended.

Everything runs as if on a CPU, because a PyTorch without CUDA cannot even pretend to have it.
Where a GPU would take other kernels, and therefore keep other tensors for backward, those are taken
here.
"""

from contextlib import contextmanager
from typing import Any, Iterator, Optional

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tsa_mt.head import CHUNK_BYTES
from tsa_mt.plan.meter import Meter

DEVICES = ("cpu", "cuda")
aten = torch.ops.aten


@contextmanager
def pretending(device: str) -> Iterator[Meter]:
    """Everything that is built and run within has no contents.

    Args:
        device: ``"cpu"`` or ``"cuda"``: whose kernels and chunk sizes to take.

    Yields:
        The meter that counts what runs.
    """
    meter = Meter()
    with _chunks_of(device), FakeTensorMode(), meter, _Kernels(device):
        yield meter


@contextmanager
def _chunks_of(device: str) -> Iterator[None]:
    """Lets the head size its chunks for the pretended device."""
    own = CHUNK_BYTES["cpu"]
    CHUNK_BYTES["cpu"] = CHUNK_BYTES[device]
    try:
        yield
    finally:
        CHUNK_BYTES["cpu"] = own


class _Kernels(TorchFunctionMode):
    """Takes the kernels that the pretended device would take.

    A GPU's dropout keeps a mask of one byte per number instead of a factor of four, its attention
    keeps no weights. A CPU's attention keeps none where it has no dropout.
    """

    def __init__(self, device: str):
        super().__init__()
        self.gpu = device == "cuda"

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Replaces a few functions."""
        kwargs = kwargs or {}
        if func is torch._shape_as_tensor:  # a tensor of sizes would have no contents either
            return args[0].shape
        if func is functional.scaled_dot_product_attention:
            return self._attention(func, *args, **kwargs)
        if func is functional.dropout and self.gpu:
            return _dropout(*args, **kwargs)
        return func(*args, **kwargs)

    def _attention(
        self,
        func: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Optional[Tensor] = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
    ) -> Tensor:
        if self.gpu:
            shape = (*query.shape[:-1], key.shape[-2])
            bias = None if attn_mask is None else attn_mask.expand(shape)
            arguments = (query, key, value, bias, torch.is_grad_enabled(), dropout_p, is_causal)
            return aten._scaled_dot_product_efficient_attention(*arguments)[0]
        if dropout_p:
            return func(query, key, value, attn_mask, dropout_p, is_causal)
        return aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, is_causal=is_causal, attn_mask=attn_mask
        )[0]


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(input, p, True)[0] if training and p else input
