"""Floating-point operations of matrix products, convolutions and attentions, by operation.

PyTorch's table, in which a multiplication and an addition count as two, and what is missing in it:
products that are added to a matrix in place (the head's gradient of a projection is one), and the
CPU's attention.
"""

from typing import Any, Callable, Dict

import torch
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten

FORMULAS: Dict[Any, Callable[..., int]] = {
    **flop_registry,
    aten.addmm_: flop_registry[aten.addmm],
    aten.baddbmm_: flop_registry[aten.baddbmm],
    aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
        aten._scaled_dot_product_flash_attention
    ],
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        aten._scaled_dot_product_flash_attention_backward
    ],
}
"""Called with an operation's own arguments, and ``out_val``: what it returned."""
