"""The drawing of a tree: time runs to the right, the leader is the straight line at the top."""

from typing import Dict, Optional

from tsa_mt.evaluate.report.markup import Html, element, missing
from tsa_mt.evaluate.report.wording import leaf_name, plural
from tsa_mt.tree import Node, Tree

ROW, BOX, GAP = 34.0, 20.0, 16.0
LEFT, LABELS, TOP = 46.0, 148.0, 8.0
SPAN = 420.0


def draw_tree(notation: str, notes: Optional[Dict[int, str]] = None) -> Html:
    """A figure of a tree.

    Args:
        notation: The tree as `Tree.parse` reads it.
        notes: A remark for a leaf, set beside its name.
    """
    if not notation:
        return missing("This network is no tree: nothing branches off.")
    try:
        tree = Tree.parse(notation)
    except ValueError:
        return missing(f"The tree '{notation}' is not a notation that can be drawn.")
    rows = _rows(tree)
    height = TOP + ROW * len(tree.leaves)
    unit = _unit(tree)
    return element(
        "figure",
        element("figcaption", f"Tree {tree}"),
        element(
            "svg",
            element("text", "input", x=0.0, y=_middle(0) + 4, class_="name"),
            element("line", x1=36.0, x2=LEFT, y1=_middle(0), y2=_middle(0), class_="edge leader"),
            [_edge(tree, node, rows, unit) for node in reversed(tree.nodes)],
            [_box(tree, node, rows, unit) for node in tree.nodes],
            _leaf_labels(tree, rows, unit, notes or {}),
            viewBox=f"0 0 {LEFT + SPAN + LABELS:g} {height:g}",
            role="img",
            aria_label=_in_words(tree),
            class_="tree",
        ),
        element("p", _in_words(tree), class_="hint"),
        class_="drawing",
        tabindex="0",
    )


def _in_words(tree: Tree) -> str:
    return (
        f"{plural(len(tree.leaves), 'leaf').replace('leafs', 'leaves')}, "
        f"{plural(tree.layers, 'layer')} in training; the leader keeps {tree.depth} of them "
        f"({' + '.join(str(node) for node in tree.leader)})."
    )


def _rows(tree: Tree) -> Dict[int, int]:
    """Node -> row: that of its first leaf, so that every first path is a straight line."""
    rows: Dict[int, int] = {}
    for row, path in enumerate(tree.paths):
        for node in path:
            rows.setdefault(node.index, row)
    return rows


def _unit(tree: Tree) -> float:
    """Width of a layer, so that the longest path fills the drawing."""
    deepest = max(leaf.stop for leaf in tree.leaves)
    levels = max(len(path) for path in tree.paths)
    return max(1.0, (SPAN - GAP * (levels - 1)) / max(deepest, 1))


def _level(tree: Tree, node: Node) -> int:
    level = 0
    while node.parent is not None:
        node, level = tree.nodes[node.parent], level + 1
    return level


def _x(tree: Tree, node: Node, unit: float) -> float:
    return LEFT + node.start * unit + GAP * _level(tree, node)


def _middle(row: int) -> float:
    return TOP + ROW * row + BOX / 2


def _style(tree: Tree, node: Node) -> str:
    return " leader" if node in tree.leader else ""


def _edge(tree: Tree, node: Node, rows: Dict[int, int], unit: float) -> Optional[Html]:
    """From the end of the parent to the start of the node."""
    if node.parent is None:
        return None
    parent = tree.nodes[node.parent]
    x0 = _x(tree, parent, unit) + parent.layers * unit
    x1 = _x(tree, node, unit)
    y0, y1 = _middle(rows[parent.index]), _middle(rows[node.index])
    bend = x0 + (x1 - x0) / 2
    path = f"M{x0:.1f} {y0:.1f}H{bend:.1f}V{y1:.1f}H{x1:.1f}"
    return element("path", d=path, class_=f"edge{_style(tree, node)}")


def _box(tree: Tree, node: Node, rows: Dict[int, int], unit: float) -> Html:
    """A node as wide as its layers are many, with a line between layers and their number."""
    x, y = _x(tree, node, unit), TOP + ROW * rows[node.index]
    width = node.layers * unit
    if not node.layers:
        return element("circle", cx=x, cy=y + BOX / 2, r=4.0, class_=f"fork{_style(tree, node)}")
    cuts = [
        element("line", x1=x + n * unit, x2=x + n * unit, y1=y, y2=y + BOX, class_="cut")
        for n in range(1, node.layers)
        if unit >= 7
    ]
    label = element("text", str(node), x=x + width / 2, y=y + BOX / 2 + 4.5, class_="layers")
    span = max(18.0, 8.0 * len(str(node)))
    plate = element(
        "rect", x=x + (width - span) / 2, y=y + 2, width=span, height=BOX - 4, class_="plate"
    )
    return element(
        "g",
        element("title", _title(node)),
        element("rect", x=x, y=y, width=width, height=BOX, rx=4.0, class_="node"),
        cuts,
        plate if cuts else None,
        _border(node, x, y, unit),
        label,
        class_=_style(tree, node).strip() or None,
    )


def _title(node: Node) -> str:
    if node.cut is None:
        return plural(node.layers, "layer")
    return f"{plural(node.cut, 'encoder layer')}, {plural(node.layers - node.cut, 'decoder layer')}"


def _border(node: Node, x: float, y: float, unit: float) -> Optional[Html]:
    """A line that stands out of the box where the decoder begins."""
    if node.cut is None:
        return None
    border = x + node.cut * unit
    return element("line", x1=border, x2=border, y1=y - 4, y2=y + BOX + 4, class_="border")


def _leaf_labels(tree: Tree, rows: Dict[int, int], unit: float, notes: Dict[int, str]) -> list:
    labels = []
    for number, leaf in enumerate(tree.leaves):
        x = _x(tree, leaf, unit) + leaf.layers * unit + 9
        note = f" {notes[number]}" if number in notes else ""
        name = element("tspan", leaf_name(number), class_="strong" if number == 0 else None)
        remark = element("tspan", note, class_="remark") if note else None
        labels.append(
            element("text", name, remark, x=x, y=_middle(rows[leaf.index]) + 4.5, class_="name")
        )
    return labels
