"""What a training's figures mean, in words (standard library only).

The figures themselves come from `tsa_mt.vitals`.
"""

from collections.abc import Mapping

FAINT = 0.01
"""Pressure below which distillation does nothing; and head-room as a share of the leader's nll."""

FULL = 0.9
"""Weight of a ramp from which on pressure is judged."""


def remarks(figures: Mapping[str, float]) -> dict[str, str]:
    """Plain sentences about a training's figures, by what they are about.

    Args:
        figures: As they are logged for training: ``pressure_b0``, ``headroom``, ``nll_loss``, ...
    """
    found = {}
    pressure = [value for name, value in figures.items() if name.startswith("pressure_b")]
    largest = max(pressure, default=FAINT)
    if largest < FAINT and figures.get("ramp", 1.0) >= FULL:
        found["pressure"] = (
            f"Distillation does nothing: its gradient is at most {largest:.2g} of the task loss's "
            f"in every leaf (pressure). Raise its weight, or lower its temperature."
        )
    room, loss = figures.get("headroom"), figures.get("nll_loss")
    if room is not None and loss and room < FAINT * loss:
        found["headroom"] = (
            f"The leaves have nothing left to teach each other: together they are {room:.2g} bits "
            f"better than one of them at {loss:.3g} bits (head-room)."
        )
    return found
