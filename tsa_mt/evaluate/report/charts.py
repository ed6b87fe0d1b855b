"""Line charts and scatter plots as SVG that follows the page's light or dark colours.

Plotting libraries bake colours into their SVG; here a mark has only a class, and the style sheet
gives it the colour of the theme. Lines differ in dashes and marks in shape as well as in colour.
"""

import math
from dataclasses import dataclass, replace
from typing import Iterator, List, Optional, Sequence, Tuple

from tsa_mt.evaluate.report.markup import Html, element, missing

Point = Tuple[float, float]

WIDTH, HEIGHT = 400.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 14.0, 26.0, 40.0
COLOURS = 8
MAX_POINTS = 300  # of a line; a longer one is condensed
STRETCHES = 120
MAX_MARKED = 60  # points of a line that say their value when pointed at
MAX_DOTS = 24  # points that are visible, too
DASHES = (None, "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 4", "6 2 1 2 1 2")
SHAPES = ("circle", "square", "triangle", "diamond", "cross")


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
class Mark:
    """A point of a scatter plot.

    Attributes:
        label: Name of what it stands for.
        x: Cost.
        y: Quality.
        group: Marks of a group share colour and shape.
    """

    label: str
    x: float
    y: float
    group: str


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
        _frame(x_axis, y_axis, x_label, y_label),
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


def _frame(
    x_axis: Axis, y_axis: Axis, x_label: str, y_label: str
) -> Html:
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


def scatter(
    title: str, marks: Sequence[Mark], x_label: str, y_label: str, groups: Sequence[str]
) -> Html:
    """A figure with one mark a run; the horizontal axis is logarithmic over a wide range.

    Args:
        title: Heading of the figure.
        marks: At least one mark.
        x_label: What the horizontal axis shows, and its unit.
        y_label: The same of the vertical axis.
        groups: All groups, so that a group looks the same in every figure.
    """
    xs, ys = [mark.x for mark in marks], [mark.y for mark in marks]
    x_axis = _cost_axis(min(xs), max(xs))
    margin = (max(ys) - min(ys)) * 0.08
    y_axis = linear_axis(min(ys) - margin, max(ys) + margin, HEIGHT - BOTTOM, TOP)
    content = [_mark(mark, x_axis, y_axis, groups.index(mark.group)) for mark in marks]
    words = "; ".join(f"{mark.label}: {mark.y:.4g} at {mark.x:.3g}" for mark in marks)
    svg = element(
        "svg",
        _frame(x_axis, y_axis, x_label, y_label),
        content,
        _labels(marks, x_axis, y_axis),
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=f"{title}: {y_label} against {x_label}. {words}.",
        class_="chart",
    )
    used = [group for group in groups if any(mark.group == group for mark in marks)]
    legend = [element("li", _shape_swatch(groups.index(name)), name) for name in used]
    return element("figure", _caption(title), svg, element("ul", legend, class_="legend"))


def _cost_axis(low: float, high: float) -> Axis:
    if low > 0 and high / low > 20:
        return log_axis(low, high, LEFT, WIDTH - RIGHT)
    margin = (high - low) * 0.08
    start = low - margin if low - margin > 0 or low < 0 else 0.0
    return linear_axis(start, high + margin, LEFT, WIDTH - RIGHT, 4)


def _mark(mark: Mark, x_axis: Axis, y_axis: Axis, group: int) -> Html:
    x, y = x_axis.place(mark.x), y_axis.place(mark.y)
    title = element("title", f"{mark.label}: {mark.y:.4g} at {mark.x:.4g}")
    return element("g", title, shape(group, x, y), class_=f"mark c{group % COLOURS}")


def shape(group: int, x: float, y: float, size: float = 5.0) -> Html:
    """The mark of a group, around ``(x, y)``."""
    kind = SHAPES[group % len(SHAPES)]
    if kind == "circle":
        return element("circle", cx=x, cy=y, r=size)
    if kind == "square":
        return element("rect", x=x - size, y=y - size, width=2 * size, height=2 * size)
    far = size * 1.3
    paths = {
        "triangle": f"M{x:.1f} {y - far:.1f}l{far:.1f} {far * 1.7:.1f}h{-2 * far:.1f}z",
        "diamond": f"M{x:.1f} {y - far:.1f}l{far:.1f} {far:.1f}l{-far:.1f} {far:.1f}"
        f"l{-far:.1f} {-far:.1f}z",
        "cross": f"M{x - far:.1f} {y - 2:.1f}h{far - 2:.1f}v{2 - far:.1f}h4v{far - 2:.1f}"
        f"h{far - 2:.1f}v4h{2 - far:.1f}v{far - 2:.1f}h-4v{2 - far:.1f}h{2 - far:.1f}z",
    }
    return element("path", d=paths[kind])


def _shape_swatch(group: int) -> Html:
    return element(
        "svg",
        element("g", shape(group, 8.0, 7.0), class_=f"mark c{group % COLOURS}"),
        viewBox="0 0 16 14",
        class_="swatch small",
        aria_hidden="true",
    )


def _labels(marks: Sequence[Mark], x_axis: Axis, y_axis: Axis) -> List[Html]:
    """Names beside the marks, pushed down where they would lie on each other; few marks only."""
    if len(marks) > 12:
        return []
    labels, taken = [], []
    for mark in sorted(marks, key=lambda mark: y_axis.place(mark.y)):
        x, y = x_axis.place(mark.x), y_axis.place(mark.y) + 4
        left = x > (LEFT + WIDTH) / 2
        width = 6.2 * len(mark.label)
        start = x - 9 - width if left else x + 9
        while any(abs(y - other) < 12 and _overlap(start, width, span) for other, span in taken):
            y += 3
        taken.append((y, (start, start + width)))
        style = "tick end" if left else "tick"
        labels.append(element("text", mark.label, x=x + (-9 if left else 9), y=y, class_=style))
    return labels


def _overlap(start: float, width: float, span: Tuple[float, float]) -> bool:
    return start < span[1] and start + width > span[0]
