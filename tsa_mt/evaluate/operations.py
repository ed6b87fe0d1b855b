"""Counting the floating-point operations of training steps while they run.

PyTorch's formulas, and those it lacks (`tsa_mt.plan.formulas`), are applied to every matrix
product, convolution and attention that is dispatched, forward and backward. A multiplication and an
addition count as two; element-wise operations count nothing.
"""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from tsa_mt.plan.formulas import FORMULAS


class OperationCounter(TorchDispatchMode):
    """Adds up the operations that run while it is entered; it changes nothing about them.

    Attributes:
        total: Operations so far.
    """

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = FORMULAS.get(func._overloadpacket)
        if formula is not None:
            try:
                self.total += int(formula(*args, **kwargs, out_val=result))
            except Exception:  # a formula for other arguments than these: that operation is missed
                pass
        return result
