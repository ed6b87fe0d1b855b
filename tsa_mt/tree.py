"""Trees of layers: notation, presets, paths and a drawing (standard library only).

A tree is written like a Newick tree whose numbers are layer counts: ``6`` is a plain chain of six
layers, ``4(2,2,2,2)`` shares four layers and then forks into four branches of two, and
``2(2(2,2),2(2,2))`` is TSA's balanced 1-2-4 tree over six layers::

    2 ─┬─ 2 ─┬─ 2   leaf 0, the leader
       │     └─ 2   leaf 1
       └─ 2 ─┬─ 2   leaf 2
             └─ 2   leaf 3

The FIRST root-to-leaf path is the leader: the network that is deployed. A *layer* is whatever the
network counts in (decoder layers for a Transformer, residual blocks for most CNNs).
"""

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Tuple

MAX_LEVELS = 64
MAX_LAYERS = 1000
MAX_PRESET_DEPTH = 48
DIGITS = "0123456789"


@dataclass(frozen=True)
class Node:
    """A run of consecutive layers that belongs to one or more root-to-leaf paths.

    Attributes:
        index: Position in ``Tree.nodes`` (preorder; the root is 0).
        layers: Number of layers in this node; 0 is a pure branching point.
        start: Depth of the first layer, counted from the root (0-based).
        parent: Index of the parent node, ``None`` for the root.
        children: Indices of the child nodes; empty for a leaf.
    """

    index: int
    layers: int
    start: int
    parent: Optional[int]
    children: Tuple[int, ...]

    @property
    def stop(self) -> int:
        """Depth after the last layer: the node spans ``range(start, stop)``."""
        return self.start + self.layers

    @property
    def is_leaf(self) -> bool:
        """Whether a branch of the network ends here."""
        return not self.children


class Tree:
    """An immutable tree of layer counts.

    Build one with `parse`, `preset` or `resolve`. Two trees are equal when their notations are.
    """

    def __init__(self, nodes: Tuple[Node, ...]):
        self.nodes = nodes

    @classmethod
    def parse(cls, text: str) -> "Tree":
        """Reads a notation such as ``2(2(2,2),2(2,2))``; white space is ignored.

        Raises:
            ValueError: The notation is malformed (the message points at the column), deeper than
                64 levels, larger than 1,000 layers, or its leader has no layer at all.
        """
        return cls(_Parser(text).parse())

    @classmethod
    def preset(cls, name: str, depth: int) -> "Tree":
        """The preset called ``name`` for a network of ``depth`` layers.

        Raises:
            ValueError: There is no such preset, or it is not defined for ``depth``.
        """
        if name not in PRESETS:
            raise ValueError(
                f"unknown tree preset {name!r}; choose one of {', '.join(PRESETS)}, or write the "
                f"tree out, for instance '4(2,2,2,2)'"
            )
        if not 1 <= depth <= MAX_PRESET_DEPTH:
            raise ValueError(
                f"tree presets are defined for depths 1 to {MAX_PRESET_DEPTH}, got depth {depth}; "
                f"write the tree out, for instance '4(2,2,2,2)'"
            )
        return cls.parse(PRESETS[name](depth))

    @classmethod
    def resolve(cls, text: str, depth: int) -> "Tree":
        """A tree for a network of ``depth`` layers from a notation or a preset name.

        Raises:
            ValueError: The text is neither, or its leader path is not ``depth`` layers long.
        """
        name = text.strip()
        if name[:1].isalpha():
            return cls.preset(name, depth)
        tree = cls.parse(text)
        if tree.depth != depth:
            raise ValueError(
                f"the leader (first) path of tree '{tree}' has {tree.depth} layers, but the "
                f"network is {depth} layers deep; make the first path add up to {depth}"
            )
        return tree

    @property
    def leaves(self) -> Tuple[Node, ...]:
        """The leaf nodes from left to right; leaf 0 ends the leader."""
        return tuple(node for node in self.nodes if node.is_leaf)

    @property
    def paths(self) -> Tuple[Tuple[Node, ...], ...]:
        """The root-to-leaf path of every leaf, in the order of `leaves`."""
        return tuple(self._path(leaf) for leaf in self.leaves)

    @property
    def leader(self) -> Tuple[Node, ...]:
        """The first root-to-leaf path: the network that is kept."""
        return self.paths[0]

    @property
    def depth(self) -> int:
        """Number of layers on the leader's path."""
        return self.leader[-1].stop

    @property
    def layers(self) -> int:
        """Number of layers in all nodes together: what one training step runs."""
        return sum(node.layers for node in self.nodes)

    def _path(self, leaf: Node) -> Tuple[Node, ...]:
        path = [leaf]
        while path[-1].parent is not None:
            path.append(self.nodes[path[-1].parent])
        return tuple(reversed(path))

    def draw(self) -> str:
        """The tree as text, one line a leaf."""
        labels = {leaf.index: number for number, leaf in enumerate(self.leaves)}
        return "\n".join(line.rstrip() for line in self._draw(self.nodes[0], labels))

    def _draw(self, node: Node, labels: Dict[int, int]) -> List[str]:
        head = str(node.layers)
        if node.is_leaf:
            number = labels[node.index]
            return [f"{head}   leaf {number}" + (", the leader" if number == 0 else "")]
        indent = " " * (len(head) + 2)
        lines: List[str] = []
        for position, child in enumerate(node.children):
            last = position == len(node.children) - 1
            for row, line in enumerate(self._draw(self.nodes[child], labels)):
                if row == 0:
                    fork = ("─" if last else "┬") if position == 0 else ("└" if last else "├")
                    lines.append((f"{head} ─" if position == 0 else indent) + f"{fork}─ {line}")
                else:
                    lines.append(f"{indent}{' ' if last else '│'}  {line}")
        return lines

    def __str__(self) -> str:
        return self._notation(self.nodes[0])

    def _notation(self, node: Node) -> str:
        children = ",".join(self._notation(self.nodes[child]) for child in node.children)
        return f"{node.layers}({children})" if children else str(node.layers)

    def __repr__(self) -> str:
        return f"Tree.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and self.nodes == other.nodes

    def __hash__(self) -> int:
        return hash(self.nodes)


class _Parser:
    """Recursive descent over ``tree := number [ "(" tree { "," tree } ")" ]``."""

    def __init__(self, text: str):
        self.text = text
        self.position = 0
        self.total = 0
        self.nodes: List[Optional[Node]] = []

    def parse(self) -> Tuple[Node, ...]:
        self._node(parent=None, start=0, level=1)
        if self._peek():
            opening = "'(' or " if self._number_just_read() else ""
            raise self._error(f"expected {opening}the end of the tree")
        nodes = tuple(self.nodes)
        first = nodes[0]
        while first.children:
            first = nodes[first.children[0]]
        if first.stop == 0:
            raise ValueError(
                f"tree '{self.text.strip()}' has a leader (first) path of 0 layers; "
                f"give the first path at least one layer, for instance '0(1,1)'"
            )
        return nodes

    def _node(self, parent: Optional[int], start: int, level: int) -> int:
        if level > MAX_LEVELS:
            raise self._error(f"expected at most {MAX_LEVELS} levels", f"level {level}")
        layers = self._number()
        index = len(self.nodes)
        self.nodes.append(None)  # reserves the preorder position
        children: List[int] = []
        if self._peek() == "(":
            self.position += 1
            children.append(self._node(index, start + layers, level + 1))
            while self._separator() == ",":
                children.append(self._node(index, start + layers, level + 1))
        self.nodes[index] = Node(index, layers, start, parent, tuple(children))
        return index

    def _separator(self) -> str:
        mark = self._peek()
        if mark not in (",", ")") or not mark:
            opening = "'(', " if self._number_just_read() else ""
            raise self._error(f"expected {opening}',' or ')'")
        self.position += 1
        return mark

    def _number_just_read(self) -> bool:
        """Whether the last thing read is a number, which a '(' may follow."""
        return self.text[: self.position].rstrip()[-1:] in DIGITS

    def _number(self) -> int:
        self._peek()
        begin = self.position
        while self.position < len(self.text) and self.text[self.position] in DIGITS:
            self.position += 1
        if begin == self.position:
            raise self._error("expected a number of layers")
        digits = self.text[begin : self.position].lstrip("0") or "0"
        value = int(digits) if len(digits) <= 4 else MAX_LAYERS + 1
        self.total += value
        if self.total > MAX_LAYERS:
            self.position = begin
            raise self._error(f"expected at most {MAX_LAYERS} layers in the whole tree", "more")
        return value

    def _peek(self) -> str:
        """The next character that is not white space, '' at the end."""
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1
        return self.text[self.position : self.position + 1]

    def _error(self, expected: str, found: str = "") -> ValueError:
        """What was expected at this position and what stands there, with a caret below it."""
        mark = self.text[self.position : self.position + 1]
        found = found or (repr(mark) if mark else "nothing more")
        shown = "".join(" " if mark.isspace() else mark for mark in self.text)
        return ValueError(
            f"malformed tree: column {self.position + 1}: {expected}, found {found}\n"
            f"  {shown}\n  {' ' * self.position}^"
        )


def _chain(depth: int) -> str:
    return str(depth)


def _third(depth: int) -> int:
    return max(1, depth // 3)


def _balanced(depth: int) -> str:
    """TSA: thirds by depth, 1-2-4 copies, the remainder in the trunk."""
    if depth == 1:
        return "0(1,1,1,1)"
    third = _third(depth)
    half = f"{third}({third},{third})"
    return f"{depth - 2 * third}({half},{half})"


def _unbalanced(depth: int) -> str:
    """TSA's unbalanced variant as a caterpillar: of two copies a level only one splits again."""
    levels = min(3, depth)
    step = max(1, depth // 4)
    text, below = f"{step}", step
    for level in range(levels):
        last = level == levels - 1
        head = depth - levels * step if last else step
        text = f"{head}({text},{below})"
        below += head
    return text


def _fork(depth: int) -> str:
    """OKDDip and ONE: the last third in four copies."""
    third = _third(depth)
    return f"{depth - third}({','.join([str(third)] * 4)})"


def _ladder(depth: int) -> str:
    """AHBF: four branches of growing depth; steps of 4 blocks at ResNet-32's 15 blocks."""
    third = _third(depth)
    step = min(4, max(1, 4 * third // 5))
    return f"{depth - third}({','.join(str(third + i * step) for i in range(4))})"


def _peers(depth: int) -> str:
    """Four whole copies."""
    return f"0({','.join([str(depth)] * 4)})"


PRESETS: Dict[str, Callable[[int], str]] = {
    "chain": _chain,
    "tsa": _balanced,
    "tsa_unbalanced": _unbalanced,
    "fork": _fork,
    "ladder": _ladder,
    "peers": _peers,
}
