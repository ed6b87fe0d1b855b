"""Figures as a person reads them: durations, sizes, counts, and what a metric's name stands for."""

import math
from typing import Optional, Tuple

NOT_RECORDED = "not recorded"
_DURATIONS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_POWERS = ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: object, decimals: int = 2) -> str:
    """A number with thousands separators; anything else is said to be missing."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return NOT_RECORDED
    if not math.isfinite(value):
        return "not finite"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{decimals}f}"


def scaled(value: object, unit: str) -> str:
    """A number with a decimal prefix: ``2.5 PFLOP``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return NOT_RECORDED
    factor, prefix = prefix_for(abs(value))
    return f"{value / factor:.3g} {prefix}{unit}" if unit or prefix else f"{value:.3g}"


def prefix_for(largest: float) -> Tuple[float, str]:
    """The decimal prefix that suits a number."""
    return next(((f, p) for f, p in _POWERS if largest >= f), (1.0, ""))


def memory(value: object) -> str:
    """Bytes as MiB or GiB."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return NOT_RECORDED
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.1f} MiB"


def duration(seconds: object) -> str:
    """Seconds as ``1 h 05 min``."""
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        return NOT_RECORDED
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def duration_unit(seconds: float) -> Tuple[float, str]:
    """The unit that suits a duration, in seconds, with its abbreviation."""
    return next(((f, u) for f, u in _DURATIONS if seconds >= f), (1.0, "s"))


def percent(value: float, decimals: int = 0) -> str:
    """A number of hundredths, with a space that does not break."""
    return f"{value:.{decimals}f}\u00a0%"


def leaf_of(metric: str) -> Optional[int]:
    """The leaf that a metric such as ``nll_b2`` or ``accuracy_b2`` belongs to."""
    _, mark, leaf = metric.rpartition("_b")
    return int(leaf) if mark and leaf.isdecimal() else None


def leaf_name(leaf: int) -> str:
    """``leader`` for leaf 0, ``leaf 2`` for others."""
    return f"leaf {leaf}" if leaf else "leader"


def plural(count: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
