"""Axes of charts: round ticks, linear and logarithmic scales, and the frame around the marks."""

import math
from dataclasses import dataclass
from typing import List, Sequence, Tuple

from tsa_mt.evaluate.report.markup import Html, element

WIDTH, HEIGHT = 400.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 14.0, 26.0, 40.0
COLOURS = 8  # of marks; the style sheet has them as --c0 to --c7


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` laid out from ``start`` to ``end``.

    Attributes:
        ticks: Values that get a line and a label.
        log: Whether equal distances are equal ratios.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: Tuple[float, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """The coordinate of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def linear_axis(low: float, high: float, start: float, end: float, count: int = 5) -> Axis:
    """An axis whose ends and ticks are round numbers, and that is never empty."""
    if high <= low:
        margin = abs(low) * 0.05 or 1.0
        low, high = low - margin, high + margin
    step = round_step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(number * step for number in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], start, end, ticks)


def tight_axis(low: float, high: float, start: float, end: float, count: int = 4) -> Axis:
    """An axis that ends where the data end, with round ticks within."""
    wide = linear_axis(low, high, start, end, count)
    if high <= low:
        return wide
    ticks = tuple(tick for tick in wide.ticks if low <= tick <= high)
    return Axis(low, high, start, end, ticks)


def log_axis(low: float, high: float, start: float, end: float) -> Axis:
    """A logarithmic axis over positive values with ticks at 1, 2 and 5 times powers of ten."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    choices = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [m * 10.0**power for power in range(first, last + 1) for m in choices]
    below = [tick for tick in ticks if tick <= low] or ticks[:1]
    above = [tick for tick in ticks if tick >= high] or ticks[-1:]
    inside = tuple(tick for tick in ticks if below[-1] <= tick <= above[0])
    if inside[0] == inside[-1]:
        inside = (inside[0] / 2, inside[0] * 2)
    return Axis(inside[0], inside[-1], start, end, inside, log=True)


def round_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))


def tick_labels(ticks: Sequence[float]) -> List[str]:
    """Short numbers, all in the unit of the greatest: 5k and 20k; no rounding error shows."""
    largest = max(map(abs, ticks), default=0.0)
    factor, suffix = 1.0, ""
    if 0 < largest < 0.001:
        power = math.floor(math.log10(largest))
        factor, suffix = 10.0**power, f"e{power}"
    if largest >= 10_000:
        factor, suffix = (1e6, "M") if largest >= 1e6 else (1e3, "k")
    shown = [0.0 if abs(tick) < 1e-9 * largest else tick / factor for tick in ticks]
    return [f"{value:,.6g}{suffix if value else ''}" for value in shown]


def frame(x_axis: Axis, y_axis: Axis, x_label: str, y_label: str) -> Html:
    """Grid, tick labels and the names of the axes with their units."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick, label in zip(y_axis.ticks, tick_labels(y_axis.ticks)):
        y = y_axis.place(tick)
        parts += [
            element("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid"),
            element("text", label, x=LEFT - 7, y=y + 4, class_="tick end"),
        ]
    for tick, label in zip(x_axis.ticks, tick_labels(x_axis.ticks)):
        x = x_axis.place(tick)
        parts += [
            element("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"),
            element("text", label, x=x, y=bottom + 17, class_="tick middle"),
        ]
    return element(
        "g",
        parts,
        element("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"),
        element("text", y_label, x=LEFT - 46, y=12.0, class_="name"),
        element("text", x_label, x=right, y=HEIGHT - 5, class_="name end"),
        aria_hidden="true",
    )
