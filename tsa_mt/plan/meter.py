"""Counts operations and live bytes of whatever runs, on tensors that have no contents.

Contents are asked for in a few places. The answers describe a batch without padding: no mask has
anything in it, and of the targets every one is kept.
"""

import weakref
from functools import partial
from typing import Any, Dict, Iterator, List, Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tsa_mt.plan.formulas import FORMULAS

aten = torch.ops.aten


class Meter(TorchDispatchMode):
    """Meters what runs under it.

    To be entered within a ``FakeTensorMode``. A storage counts from the operation that returns it
    until its last reference is gone; what kernels allocate and free within an operation is not
    seen.

    Attributes:
        flops: Floating-point operations since `start`.
        live: Bytes of all storages that exist now.
        peak: Largest value of ``live`` since `start`.
    """

    def __init__(self):
        super().__init__()
        self.flops = 0
        self.live = 0
        self.peak = 0
        self._storages: Dict[int, weakref.ref] = {}

    def start(self) -> None:
        """Counts from here; what is live already stays so."""
        self.flops = 0
        self.peak = self.live

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Runs one operation and counts it."""
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:  # half of all calls, and nothing to count
            return args[0].fake_device
        if func in ANSWERS:
            result = ANSWERS[func](func, *args, **kwargs)
        else:
            result = func(*args, **kwargs)
        formula = FORMULAS.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        for tensor in _tensors(result):
            self._see(tensor)
        return result

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._storages:
            self._storages[key] = weakref.ref(storage, partial(self._forget, key, size))
            self.live += size
            self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int, _: Any) -> None:
        del self._storages[key]
        self.live -= size


def _tensors(result: Any) -> Iterator[Tensor]:
    parts: Sequence[Any] = result if isinstance(result, (tuple, list)) else (result,)
    return (part for part in parts if isinstance(part, Tensor))


def _value(func, tensor: Tensor) -> Any:
    """A number out of a tensor: known for constants; else no (of a mask), or one."""
    if getattr(tensor, "constant", None) is not None:
        return func(tensor)
    if tensor.dtype == torch.bool:
        return False
    return 1.0 if tensor.dtype.is_floating_point else 1


def _all_positions(func, mask: Tensor) -> Tensor:
    """The positions at which a mask is true: all."""
    return torch.empty(mask.numel(), mask.dim(), dtype=torch.long, device=mask.device)


def _index(func, tensor: Tensor, indices: List[Any]) -> Tensor:
    """Indexing, with masks taken for the list of all their positions."""
    positions: List[Any] = []
    for index in indices:
        masked = index is not None and index.dtype == torch.bool
        positions += _all_positions(func, index).unbind(1) if masked else [index]
    return func(tensor, positions)


ANSWERS = {
    aten._local_scalar_dense.default: _value,
    aten.nonzero.default: _all_positions,
    aten.index.Tensor: _index,
}
"""Operations whose result depends on contents."""
