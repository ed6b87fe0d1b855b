"""Distillation that grows during the first part of training."""

import math
from collections.abc import Sequence

from tsa_mt.objectives import functional as F
from tsa_mt.objectives.base import Objective
from tsa_mt.objectives.config import NOT_NEGATIVE, Option
from tsa_mt.objectives.rows import Context, Rows


class RampedObjective(Objective):
    """An objective whose distillation terms weigh ``exp(-5 (1 - progress)^2)``.

    A subclass overrides ``rampup`` with the published length: ``Option.rampup(80, of=300)``.
    """

    rampup = Option.rampup(0, of=1)
    rampup_updates = Option(
        0, "length of the ramp-up in updates; 0 = that fraction of --max-update", NOT_NEGATIVE
    )

    def ramp(self, rows: Rows | Context) -> float:
        """Weight of the distillation terms, in (0, 1]."""
        return F.gaussian_rampup(rows.progress)


def progress(objective: Objective, num_updates: int, max_update: int) -> float:
    """Fraction of an objective's ramp-up that is done, in [0, 1]; 1 where there is none.

    The ramp-up begins where distillation does, at ``start``.

    Args:
        objective: Any objective.
        num_updates: Number of updates done.
        max_update: Length of the whole training, 0 where it is not known.

    Raises:
        ValueError: See `ramp_updates`.
    """
    length = ramp_updates(objective, max_update)
    done = max(0, num_updates - objective.config.start)
    return min(1.0, done / length) if length else 1.0


def length_known(objective: Objective, max_update: int) -> bool:
    """Whether the ramp-up has a length: only a fraction of an open-ended training has none."""
    if not isinstance(objective, RampedObjective) or not objective.rampup:
        return True
    return max_update > 0 or objective.rampup_updates > 0


def ramp_updates(objective: Objective, max_update: int) -> float:
    """Length of an objective's ramp-up in updates, 0 where there is none.

    Raises:
        ValueError: The length is a fraction of a training whose length is not known.
    """
    if not isinstance(objective, RampedObjective):
        return 0.0
    if not length_known(objective, max_update):
        raise ValueError(
            f"objective {objective.name!r} ramps up over {objective.rampup:g} of the training, "
            f"whose length is not known; give --max-update, or the ramp-up's own length with "
            f"--kd-rampup-updates"
        )
    return objective.rampup_updates or objective.rampup * max_update


FULL = 0.9
"""A weight from which on distillation counts as there."""


def full_at(objective: Objective, max_update: int) -> int:
    """The update at which distillation has `FULL` of its weight."""
    share = 1.0 - math.sqrt(-math.log(FULL) / 5.0)
    length = ramp_updates(objective, max_update)
    return objective.config.start + math.ceil(share * length)


def doubt(objective: Objective, max_update: int, early_ends: Sequence[str]) -> str:
    """Why distillation may never come into force, in a sentence; empty where nothing says so.

    A ramp-up of unknown length is refused by the first update, and gets no sentence here.

    Args:
        objective: Any objective.
        max_update: Length of the whole training, 0 where it is not known.
        early_ends: Flags that may end it before.
    """
    if not length_known(objective, max_update):
        return ""
    reached = full_at(objective, max_update)
    said = f"objective {objective.name!r} distils with {FULL:.0%} of its weight from update "
    if 0 < max_update < reached:
        return f"{said}{reached:,} on, and --max-update {max_update:,} ends the training before"
    relative = isinstance(objective, RampedObjective) and not objective.rampup_updates
    if relative and objective.rampup and early_ends:
        return (
            f"{said}{reached:,} on, because its ramp-up is a part of --max-update {max_update:,}; "
            f"{' and '.join(early_ends)} may end the training long before: give the ramp-up's own "
            f"length, for instance --kd-rampup-updates {max(1, reached // 10)}"
        )
    return ""
