"""The mutual losses' passes over the logits, compiled: once in a process, and kept on disk.

``torch.compile`` turns `mutual_function` into three passes over a chunk's logits. The first time on
a machine that takes some seconds of a C++ compiler (CPU) or of Triton (GPU), later ones load what
is kept. It pays for itself within a few updates of a usual vocabulary and never for a toy's.
"""

import logging
import time
import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from tsa_mt.objectives.mutual import Mutual, MutualSums, mutual_function

logger = logging.getLogger(__name__)

LEAST_CLASSES = 4000
"""From so many classes on the losses are compiled: a batch of 3,500 rows and four leaves saves half
a second an update at 8,000 classes (benchmarks/training_step.md)."""
SAMPLE_ROWS = 8

MutualFunction = Callable[[Tensor, Tensor], MutualSums]


@cache
def compiled_mutual(
    loss: Mutual, smoothing: float, leaves: int, classes: int, dtype: torch.dtype, device: str
) -> MutualFunction | None:
    """The compiled function of ``(leaves, rows, classes)`` logits, for two rows or more.

    Args:
        loss: The numbers of the loss.
        smoothing: Mass taken from the true class.
        leaves: How many there are.
        classes: How many there are.
        dtype: Of the logits.
        device: Type of the device that computes.

    Returns:
        The function, or ``None`` with a warning in the log where there is no working compiler.
    """
    logger.info(
        "compiling the losses of %d x %d %s logits, once; later starts load them",
        *(leaves, classes, str(dtype).removeprefix("torch.")),
    )
    began = time.perf_counter()
    try:
        function = torch.compile(mutual_function(loss, smoothing), fullgraph=True)
        _try(function, leaves, classes, dtype, device)
    except Exception as error:  # whatever a compiler, a driver or a full disk raises
        logger.warning(
            "the losses run uncompiled, which is slower and equally right: %s: %s",
            type(error).__name__,
            str(error).strip().partition("\n")[0],
        )
        return None
    logger.info("compiled in %.1f seconds", time.perf_counter() - began)
    return function


def _try(
    function: MutualFunction, leaves: int, classes: int, dtype: torch.dtype, device: str
) -> None:
    """Compiles for any number of rows, on logits and targets that mean nothing."""
    logits = torch.zeros(leaves, SAMPLE_ROWS, classes, dtype=dtype, device=device)
    target = torch.zeros(SAMPLE_ROWS, dtype=torch.long, device=device)
    torch._dynamo.mark_dynamic(logits, 1)
    torch._dynamo.mark_dynamic(target, 0)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        function(logits, target)
