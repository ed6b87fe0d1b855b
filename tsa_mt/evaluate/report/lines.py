"""Line charts as SVG that follows the page's light or dark colours.

Plotting libraries bake colours into their SVG; here a mark has only a class, and the style sheet
gives it the colour of the theme. Lines differ in dashes and marks in shape as well as in colour.
"""

import math
from dataclasses import dataclass, replace
from typing import Iterator, List, Optional, Sequence, Tuple

from tsa_mt.evaluate.report.axes import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    frame,
    linear_axis,
    tight_axis,
)
from tsa_mt.evaluate.report.markup import Html, element, missing

Point = Tuple[float, float]

MAX_POINTS = 300  # of a line; a longer one is condensed
STRETCHES = 120
MAX_MARKED = 60  # points of a line that say their value when pointed at
MAX_DOTS = 24  # points that are visible, too
DASHES = (None, "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 4", "6 2 1 2 1 2")


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        label: Its name in the legend.
        points: ``(x, y)`` in order of x; points that are not finite interrupt the line.
        colour: Number of its colour, from 0; 0 is the leader's.
        dash: Number of its dashes; 0 is a solid line.
        strong: Whether it is drawn thicker, as the leader is.
        band: Lowest and highest value around each point, of a curve that was condensed.
    """

    label: str
    points: Sequence[Point]
    colour: int = 0
    dash: int = 0
    strong: bool = False
    band: Sequence[Point] = ()


@dataclass(frozen=True)
class Stretch:
    """Neighbouring points of a long curve taken together.

    Attributes:
        x: Their mean position.
        mean: Mean of their finite values; NaN if there is none.
        low: The least of them.
        high: The greatest of them.
    """

    x: float
    mean: float
    low: float
    high: float


def condense(points: Sequence[Point], count: int = STRETCHES) -> List[Stretch]:
    """Takes a curve apart into ``count`` stretches of equally many points."""
    bounds = [number * len(points) // count for number in range(count + 1)]
    return [_stretch(points[a:b]) for a, b in zip(bounds, bounds[1:]) if a < b]


def _stretch(points: Sequence[Point]) -> Stretch:
    x = sum(x for x, _ in points) / len(points)
    values = [y for _, y in points if math.isfinite(y)]
    if not values:
        return Stretch(x, math.nan, math.nan, math.nan)
    return Stretch(x, sum(values) / len(values), min(values), max(values))


def line_chart(
    title: str, series: Sequence[Series], y_label: str, x_label: str = "updates"
) -> Html:
    """A figure with lines, axes, a legend with the last values, and a description in words."""
    drawn = [entry for entry in series if any(map(_finite, entry.points))]
    if not drawn:
        return element("figure", _caption(title), missing("No finite value was logged."))
    drawn = [_condensed(entry) for entry in drawn]
    finite = [point for entry in drawn for point in entry.points if _finite(point)]
    low, high, cut = _window(finite)
    if cut is None:
        low = min([low, *(a for entry in drawn for a, _ in entry.band if math.isfinite(a))])
        high = max([high, *(b for entry in drawn for _, b in entry.band if math.isfinite(b))])
    first, last = min(x for x, _ in finite), max(x for x, _ in finite)
    x_axis = tight_axis(0.0 if 0 < first < last / 4 else first, last, LEFT, WIDTH - RIGHT)
    y_axis = linear_axis(low, high, HEIGHT - BOTTOM, TOP)
    lines = [_line(entry, x_axis, y_axis) for entry in sorted(drawn, key=lambda e: e.strong)]
    svg = _svg(title, drawn, x_axis, y_axis, x_label, y_label, lines)
    return element(
        "figure",
        _caption(title),
        svg,
        element("ul", [_legend(entry) for entry in drawn], class_="legend"),
        [element("p", note, class_="hint") for note in _notes(series, drawn, cut)],
    )


def _notes(
    series: Sequence[Series], drawn: Sequence[Series], cut: Optional[float]
) -> Iterator[str]:
    """What the reader must know beside the lines."""
    if cut is not None:
        yield f"The first values lie outside the axis, up to {_round(cut):,g}."
    if any(entry.band for entry in drawn):
        count = max(len(entry.points) for entry in series)
        yield f"Lines: means of {count // STRETCHES} figures in a row; bands: their range."


def _finite(point: Point) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _condensed(entry: Series) -> Series:
    """A line that is longer than `MAX_POINTS` as means with a band around them."""
    if len(entry.points) <= MAX_POINTS:
        return entry
    stretches = condense(entry.points)
    points = [(stretch.x, stretch.mean) for stretch in stretches]
    return replace(entry, points=points, band=[(s.low, s.high) for s in stretches])


def _window(points: Sequence[Point]) -> Tuple[float, float, Optional[float]]:
    """The range to show: a steep start that would flatten the rest is cut off and reported."""
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    settled = [y for x, y in points if x >= first + 0.05 * (last - first)]
    low, high = min(y for _, y in points), max(y for _, y in points)
    calm_low, calm_high = min(settled), max(settled)
    if len(settled) > 10 and high - low > 2 * (calm_high - calm_low) > 0 and calm_low == low:
        return calm_low, calm_high, high
    return low, high, None


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def _line(entry: Series, x_axis: Axis, y_axis: Axis) -> Html:
    """A line, interrupted where values are not finite."""
    stretches: List[List[str]] = [[]]
    for point in entry.points:
        if _finite(point):
            x, y = x_axis.place(point[0]), y_axis.place(point[1])
            stretches[-1].append(f"{x:.1f},{y:.1f}")
        else:
            stretches.append([])
    path = "".join(f"M{' '.join(stretch)}" for stretch in stretches if len(stretch) > 1)
    style = f"line c{entry.colour % COLOURS}" + (" strong" if entry.strong else "")
    dash = DASHES[entry.dash % len(DASHES)]
    line = element("path", d=path, class_=style, stroke_dasharray=dash) if path else None
    return element("g", _band(entry, x_axis, y_axis), line, _dots(entry, x_axis, y_axis))


def _dots(entry: Series, x_axis: Axis, y_axis: Axis) -> List[Html]:
    """Points with their value as a tooltip; invisible until pointed at where they would crowd."""
    if len(entry.points) > MAX_MARKED:
        return []
    quiet = " quiet" if len(entry.points) > MAX_DOTS else ""
    return [
        element(
            "circle",
            element("title", f"{entry.label}: {y:.4g} at {x:,g}"),
            cx=x_axis.place(x),
            cy=y_axis.place(y),
            r=4.0 if quiet else 3.0 if entry.strong else 2.4,
            class_=f"dot{quiet} c{entry.colour % COLOURS}",
        )
        for x, y in entry.points
        if _finite((x, y)) and y <= y_axis.high
    ]


def _band(entry: Series, x_axis: Axis, y_axis: Axis) -> Optional[Html]:
    """The range of a condensed curve as an area behind its line."""
    known = [
        (x_axis.place(point[0]), y_axis.place(low), y_axis.place(high))
        for point, (low, high) in zip(entry.points, entry.band)
        if _finite(point)
    ]
    if not known:
        return None
    there = " ".join(f"{x:.1f},{low:.1f}" for x, low, _ in known)
    back = " ".join(f"{x:.1f},{high:.1f}" for x, _, high in reversed(known))
    return element("path", d=f"M{there} L{back}z", class_=f"band c{entry.colour % COLOURS}")


def _svg(
    title: str,
    series: Sequence[Series],
    x_axis: Axis,
    y_axis: Axis,
    x_label: str,
    y_label: str,
    content: List[Html],
) -> Html:
    words = "; ".join(_in_words(entry) for entry in series)
    inside = (LEFT - 4, TOP - 4, WIDTH - LEFT - RIGHT + 8, HEIGHT - TOP - BOTTOM + 8)
    window = element(  # an inner svg cuts off what lies outside of it
        "svg",
        content,
        x=inside[0],
        y=inside[1],
        width=inside[2],
        height=inside[3],
        viewBox=" ".join(f"{value:g}" for value in inside),
    )
    return element(
        "svg",
        frame(x_axis, y_axis, x_label, y_label),
        window,
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=f"{title}, {y_label} over {x_label}. {words}.",
        class_="chart",
    )


def _in_words(entry: Series) -> str:
    finite = [point for point in entry.points if _finite(point)]
    (x0, y0), (x1, y1) = finite[0], finite[-1]
    return f"{entry.label}: {y0:.4g} at {x0:,g}, {y1:.4g} at {x1:,g}"


def _caption(title: str) -> Html:
    return element("figcaption", title)


def _legend(entry: Series) -> Html:
    last = next(y for x, y in reversed(entry.points) if _finite((x, y)))
    style = f"line c{entry.colour % COLOURS}" + (" strong" if entry.strong else "")
    dash = DASHES[entry.dash % len(DASHES)]
    swatch = element(
        "svg",
        element("path", d="M1 6H29", class_=style, stroke_dasharray=dash),
        viewBox="0 0 30 12",
        class_="swatch",
        aria_hidden="true",
    )
    return element("li", swatch, entry.label, " ", element("b", f"{last:.4g}"))
