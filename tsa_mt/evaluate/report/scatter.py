"""Scatter plots: one mark a run, whose method shows in colour and shape."""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

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
    log_axis,
)
from tsa_mt.evaluate.report.markup import Html, element

SHAPES = ("circle", "square", "triangle", "diamond", "cross")


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
        frame(x_axis, y_axis, x_label, y_label),
        content,
        _labels(marks, x_axis, y_axis),
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=f"{title}: {y_label} against {x_label}. {words}.",
        class_="chart",
    )
    used = [group for group in groups if any(mark.group == group for mark in marks)]
    legend = [element("li", _shape_swatch(groups.index(name)), name) for name in used]
    heading = element("figcaption", title)
    return element("figure", heading, svg, element("ul", legend, class_="legend"))


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
    labels: List[Html] = []
    taken: List[Tuple[float, Tuple[float, float]]] = []
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
