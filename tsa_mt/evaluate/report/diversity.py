"""Do the leaves become alike, and does distillation act? Curves over time, and answers in words."""

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Dict, List, Optional, Sequence, Tuple

from tsa_mt.evaluate.report.entry import INNER, Entry
from tsa_mt.evaluate.report.lines import Point, Series, line_chart
from tsa_mt.evaluate.report.markup import Html, element, join, missing
from tsa_mt.evaluate.report.wording import leaf_name, percent
from tsa_mt.remarks import remarks

ENOUGH = 4
CHANGE = 0.10  # of the mean divergence, over the second half of training
IDENTICAL = 0.001  # bits; what rounding to four decimals leaves of nothing, and a little more


@dataclass(frozen=True)
class Trend:
    """How a figure moved over the second half of training, as a straight line through its points.

    Attributes:
        start: Update at which the second half begins.
        stop: The last update.
        before: The line's value at ``start``, within the range of the points.
        after: Its value at ``stop``, likewise.
        noise: Root of the mean squared distance of the points from the line.
    """

    start: float
    stop: float
    before: float
    after: float
    noise: float

    @property
    def change(self) -> float:
        """From ``before`` to ``after``."""
        return self.after - self.before

    @property
    def relative(self) -> float:
        """The change as a share of the mean level; 0 where it drowns in noise."""
        level = abs(self.before + self.after) / 2
        return self.change / level if level and abs(self.change) > 2 * self.noise else 0.0


def trend(points: Sequence[Point]) -> Optional[Trend]:
    """Fits a line to the second half of the points; unset if there are fewer than `ENOUGH`."""
    finite = [point for point in points if math.isfinite(point[1])]
    if len(finite) < ENOUGH or finite[0][0] == finite[-1][0]:
        return None
    half = (finite[0][0] + finite[-1][0]) / 2
    late = [point for point in finite if point[0] >= half]
    if len(late) < 2:
        late = finite[-2:]
    x_mean, y_mean = fmean(x for x, _ in late), fmean(y for _, y in late)
    spread = sum((x - x_mean) ** 2 for x, _ in late)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in late) / spread
    fitted = [(y_mean + slope * (x - x_mean), y) for x, y in late]
    noise = math.sqrt(fmean((y - line) ** 2 for line, y in fitted))
    least, most = min(y for _, y in late), max(y for _, y in late)
    before, after = (min(max(line, least), most) for line, _ in (fitted[0], fitted[-1]))
    return Trend(late[0][0], late[-1][0], before, after, noise)


def diversity_points(entry: Entry) -> Tuple[str, List[Point], List[Point]]:
    """The split that tells most, and its agreement and divergence over time.

    Validation sees the same data every time; training is the substitute where there were fewer
    than `ENOUGH` validations.
    """
    for split in (entry.valid, INNER):
        agreement = entry.points(split, "agreement")
        divergence = entry.points(split, "kl_leaves")
        if max(len(agreement), len(divergence)) >= ENOUGH:
            return split, agreement, divergence
    split = entry.valid or INNER
    return split, entry.points(split, "agreement"), entry.points(split, "kl_leaves")


def answer(entry: Entry) -> str:
    """One sentence: are the leaves homogenising?"""
    if entry.leaves < 2:
        return "There is one leaf only, so nothing can become alike."
    split, agreement, divergence = diversity_points(entry)
    moved, agreed = trend(divergence), trend(agreement)
    if moved is None:
        return (
            f"That cannot be told yet: it takes {ENOUGH} measurements of the divergence between "
            f"leaves, and there are {len(divergence)}."
        )
    return f"{_verdict(moved)}{_agreement(agreed, entry.is_translation)} ({split})."


def _verdict(moved: Trend) -> str:
    period = f"from update {moved.start:,.0f} to {moved.stop:,.0f}"
    if abs(moved.after) < IDENTICAL and abs(moved.before) < IDENTICAL:
        return f"Yes, they are one network by now: {period} no divergence is left between leaves"
    bits = f"{moved.before:.3g} to {moved.after:.3g} bits"
    if moved.relative <= -CHANGE:
        share = percent(-100 * moved.change / moved.before)
        return (
            f"Yes, they are homogenising: {period} the divergence between two leaves fell by "
            f"{share}, from {bits}"
        )
    if moved.relative >= CHANGE:
        return f"No, they grow apart: {period} the divergence between two leaves rose from {bits}"
    return (
        f"No, they keep their distance: {period} the divergence between two leaves stayed at "
        f"about {(moved.before + moved.after) / 2:.3g} bits"
    )


def _agreement(agreed: Optional[Trend], is_translation: bool) -> str:
    if agreed is None:
        return ""
    what = "the same token" if is_translation else "the same class"
    return (
        f", and two leaves choose {what} in {percent(agreed.after, 1)} of the cases "
        f"({percent(agreed.before, 1)} before)"
    )


def diversity_section(entry: Entry) -> Html:
    """The answer, and the two curves that it is read from."""
    if entry.leaves < 2:
        return missing(answer(entry))
    split, agreement, divergence = diversity_points(entry)
    charts = [
        line_chart(f"{title}, {split}", [Series("mean over pairs of leaves", points, 0, 0)], unit)
        for title, points, unit in (
            ("Divergence between leaves (KL)", divergence, entry.unit),
            (
                "Head-room (ensemble against its leaves)",
                entry.points(split, "headroom"),
                entry.unit,
            ),
            ("Agreement between leaves (same first choice)", agreement, "% of rows"),
        )
        if points
    ]
    if not charts:
        return missing("No agreement or divergence between leaves was logged.")
    question = element("strong", "Are the leaves homogenising? ")
    return join(
        element("p", question, answer(entry), class_="answer"),
        [
            element("p", sentence, class_="answer")
            for sentence in remarks(last_figures(entry)).values()
        ],
        element("div", [charts, _pressure_chart(entry)], class_="charts"),
    )


def last_figures(entry: Entry) -> Dict[str, float]:
    """The last figures of training that `remarks` reads."""
    names = ["headroom", "nll_loss", "ramp", *(f"pressure_b{k}" for k in range(entry.leaves))]
    curves = {name: entry.points(INNER, name) for name in names}
    return {name: points[-1][1] for name, points in curves.items() if points}


def _pressure_chart(entry: Entry) -> Optional[Html]:
    """The pressure on every leaf, where it was logged."""
    series = [
        Series(leaf_name(leaf), points, leaf, 0)
        for leaf in range(entry.leaves)
        if (points := entry.points(INNER, f"pressure_b{leaf}"))
    ]
    title = f"Pressure (gradient of distillation over that of the task), {INNER}"
    return line_chart(title, series, "ratio") if series else None
