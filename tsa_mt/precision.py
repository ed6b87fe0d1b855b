"""The arithmetic of matrix products: which one a machine does fast, chosen in one place.

Weights, optimizer and losses are float32 throughout. Only matrix products are rounded: in bfloat16
their inputs and results have 8 significant bits, and sums within a product are float32.

Machines differ by more than ten times in how bfloat16 compares with float32, and on some AMD
processors the BLAS library leaves half the width of the float32 units unused while oneDNN, which
PyTorch ships too, uses all of it. So `measure` times one product of each kind, and `choose` decides
by the figures. PyTorch reaches oneDNN for float32 through a switch that permits bfloat16 inside
(``torch.backends.mkldnn.matmul.fp32_precision``). Processors without AMX do not use that
permission. One product is compared with BLAS in full precision, and where it is rounded, the switch
stays off.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

logger = logging.getLogger(__name__)

CHOICES = ("auto", "float32", "bfloat16")
SHAPE = (512, 512, 1024)
"""Rows, sum and columns of the product that is timed: 0.5 G operations."""
REPEATS = 3
CLEARLY = 1.3
"""A kind of product is chosen over the one before it when it is so many times as fast: two
processes on one machine must not differ by the noise of a measurement."""
EXACT = 1e-4
"""Largest deviation from BLAS, relative to the largest entry, that still is float32."""
SHORT = 128
"""Up to this many positions the plain attention kernel beats the blocked one on a CPU."""


@dataclass(frozen=True)
class Figures:
    """Speeds of a product in G operations a second, one entry per kind; 0 where there is none.

    Attributes:
        float32: By PyTorch's default library.
        onednn: In float32 by oneDNN; 0 where its result is rounded.
        bfloat16: In bfloat16.
    """

    float32: float
    onednn: float
    bfloat16: float


@dataclass(frozen=True)
class Precision:
    """An arithmetic and why it was chosen.

    Attributes:
        name: ``float32`` or ``bfloat16``.
        onednn: Whether float32 products go through oneDNN.
        figures: What was measured.
    """

    name: str
    onednn: bool
    figures: Figures

    def __str__(self) -> str:
        figures = self.figures
        library = " by oneDNN" if self.onednn else ""
        return (
            f"{self.name}{library} (G operations a second: float32 {figures.float32:.0f}, float32 "
            f"by oneDNN {figures.onednn:.0f}, bfloat16 {figures.bfloat16:.0f})"
        )

    def switch(self) -> None:
        """Sends the process's float32 products where they shall go, from now on."""
        _to_onednn(self.onednn)

    @contextmanager
    def products(self, device: str, positions: int) -> Iterator[None]:
        """Products within run in this arithmetic; so do those of their backward pass.

        Args:
            device: Type of the device that computes.
            positions: Length of the longest sentence, which decides the kernel of attentions.
        """
        with ExitStack() as stack:
            if self.name == "bfloat16":
                stack.enter_context(torch.autocast(device, torch.bfloat16))
            if device == "cpu" and positions <= SHORT:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield


def choose(wanted: str, figures: Figures) -> Precision:
    """The arithmetic for a wish and what was measured.

    Raises:
        ValueError: ``wanted`` is none of `CHOICES`.
    """
    if wanted not in CHOICES:
        raise ValueError(f"precision is {wanted!r}; it must be one of {', '.join(CHOICES)}")
    onednn = figures.onednn > CLEARLY * figures.float32
    exact = figures.onednn if onednn else figures.float32
    fast = figures.bfloat16 > CLEARLY * exact
    name = ("bfloat16" if fast else "float32") if wanted == "auto" else str(wanted)
    return Precision(name, onednn, figures)


def settle(wanted: str, device: str) -> Precision:
    """Chooses, logs the choice, and switches the process's float32 products to oneDNN if chosen.

    Args:
        wanted: One of `CHOICES`.
        device: Type of the device that will compute.
    """
    precision = choose(wanted, measure(device))
    precision.switch()
    logger.info("matrix products: %s", precision)
    return precision


@cache
def measure(device: str) -> Figures:
    """Times one product of each kind, once in a process."""
    rows, inner, columns = SHAPE
    generator = torch.Generator(device).manual_seed(0)
    left = torch.randn(rows, inner, device=device, generator=generator)
    right = torch.randn(columns, inner, device=device, generator=generator)
    halves = left.bfloat16(), right.bfloat16()
    return Figures(
        float32=_speed(lambda: left @ right.t()),
        onednn=_onednn_speed(left, right) if device == "cpu" else 0.0,
        bfloat16=_speed(lambda: halves[0] @ halves[1].t()),
    )


def _onednn_speed(left: Tensor, right: Tensor) -> float:
    """Speed of float32 products by oneDNN; 0 where there is none or its result is rounded."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.backends.mkldnn, "matmul"):
        return 0.0
    before, expected = torch.backends.mkldnn.matmul.fp32_precision, left @ right.t()
    _to_onednn(True)
    try:
        deviation = (left @ right.t() - expected).abs().max() / expected.abs().max()
        return _speed(lambda: left @ right.t()) if deviation < EXACT else 0.0
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before


def _to_onednn(onednn: bool) -> None:
    if hasattr(torch.backends.mkldnn, "matmul"):
        torch.backends.mkldnn.matmul.fp32_precision = "bf16" if onednn else "none"


def _speed(product: Callable[[], Tensor]) -> float:
    """G operations a second, the best of a few times.

    On a CPU the time is the process's own, which others on the machine do not lengthen.
    """
    clock = time.perf_counter if product().is_cuda else time.process_time
    times = []
    for _ in range(REPEATS):
        began = clock()
        product().max().item()  # waits for a GPU
        times.append(clock() - began)
    rows, inner, columns = SHAPE
    return 2e-9 * rows * inner * columns / max(min(times), 1e-6)
