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

A ``/`` marks where the decoder begins on a path, and the tree then spans the whole network:
``4(2/2(4,4),2/2(4,4))`` shares four encoder layers, forks into two branches of two encoder and two
decoder layers each, and every branch forks into two leaves of four decoder layers::

    4 ─┬─ 2/2 ─┬─ 4   leaf 0, the leader
       │       └─ 4   leaf 1
       └─ 2/2 ─┬─ 4   leaf 2
               └─ 4   leaf 3

Every path has one ``/``, or the whole tree has none. Without any it counts decoder layers over one
shared encoder: ``2(2,2)`` is ``6/2(2,2)`` for an encoder of six layers.
"""

from dataclasses import dataclass, replace
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
        layers: Number of layers in this node, on both sides of its ``/`` if it has one; 0 is a pure
            branching point.
        start: Depth of the first layer, counted from the root (0-based).
        parent: Index of the parent node, ``None`` for the root.
        children: Indices of the child nodes; empty for a leaf.
        cut: Number of its layers before the ``/``, ``None`` where the node has no ``/``.
    """

    index: int
    layers: int
    start: int
    parent: Optional[int]
    children: Tuple[int, ...]
    cut: Optional[int] = None

    @property
    def stop(self) -> int:
        """Depth after the last layer: the node spans ``range(start, stop)``."""
        return self.start + self.layers

    @property
    def is_leaf(self) -> bool:
        """Whether a branch of the network ends here."""
        return not self.children

    def __str__(self) -> str:
        """The node's layers as the notation has them: ``4``, or ``2/2`` where a decoder begins."""
        return str(self.layers) if self.cut is None else f"{self.cut}/{self.layers - self.cut}"


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
                64 levels, larger than 1,000 layers, its leader has no layer at all, or a ``/``
                stands on some paths only or is followed by no layer.
        """
        tree = cls(_Parser(text).parse())
        _check_paths(tree)
        return tree

    @classmethod
    def preset(cls, name: str, depth: int, encoder_depth: Optional[int] = None) -> "Tree":
        """The preset called ``name`` for a network of ``depth`` layers.

        Args:
            name: One of `PRESETS` or `NETWORK_PRESETS`.
            depth: Number of layers, of the decoder where there is an encoder.
            encoder_depth: Number of encoder layers, ``None`` for a network without an encoder.

        Raises:
            ValueError: There is no such preset, or it is not defined for these depths.
        """
        if name not in PRESETS and name not in NETWORK_PRESETS:
            raise ValueError(
                f"unknown tree preset {name!r}; choose one of "
                f"{', '.join([*PRESETS, *NETWORK_PRESETS])}, or write the "
                f"tree out, for instance '4(2,2,2,2)'"
            )
        if name in PRESETS:
            return cls.parse(PRESETS[name](_preset_depth(depth)))
        if encoder_depth is None:
            raise ValueError(
                f"tree preset {name!r} divides an encoder and a decoder together, and this network "
                f"has no encoder; choose one of {', '.join(PRESETS)}"
            )
        return cls.parse(NETWORK_PRESETS[name](_preset_depth(encoder_depth), _preset_depth(depth)))

    @classmethod
    def resolve(cls, text: str, depth: int, encoder_depth: Optional[int] = None) -> "Tree":
        """A tree for a network of ``depth`` layers from a notation or a preset name.

        Args:
            text: A notation or a preset's name.
            depth: Number of layers, of the decoder where there is an encoder.
            encoder_depth: Number of encoder layers, ``None`` for a network without an encoder.

        Raises:
            ValueError: The text is neither, or its leader path is not as long as the network.
        """
        name = text.strip()
        if name[:1].isalpha():
            return cls.preset(name, depth, encoder_depth)
        tree = cls.parse(text)
        if not tree.spans_encoder:
            _check_depth(tree, "", tree.depth, depth)
        elif encoder_depth is None:
            raise ValueError(
                f"tree '{tree}' has a '/', which marks where a decoder begins, and this network "
                f"has no decoder; write the tree without '/'"
            )
        else:
            _check_depth(tree, "encoder ", tree.encoder.depth, encoder_depth)
            _check_depth(tree, "decoder ", tree.decoder.depth, depth)
        return tree

    def with_own_encoders(self, layers: int) -> "Tree":
        """Gives every branch at the root an encoder: ``0(6,6)`` becomes ``0(6/6,6/6)``.

        Args:
            layers: Number of layers of each encoder.

        Raises:
            ValueError: The branches share layers, there is only one, or the tree has a ``/``.
        """
        root = self.nodes[0]
        if self.spans_encoder:
            raise ValueError(
                f"--peer-encoders: tree '{self}' says with '/' which encoders there are; leave "
                f"the flag out"
            )
        if root.layers or len(self.leaves) == 1:
            raise ValueError(
                f"--peer-encoders: tree '{self}' is not a set of whole networks; its root must "
                f"have no layers and several branches, for instance '0(6,6,6)' (preset peers)"
            )
        branches = (f"{layers}/{self._notation(self.nodes[child])}" for child in root.children)
        return Tree.parse(f"0({','.join(branches)})")

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

    @property
    def spans_encoder(self) -> bool:
        """Whether the notation has a ``/``, so that the tree counts encoder layers too."""
        return any(node.cut is not None for node in self.nodes)

    @property
    def encoder(self) -> "Tree":
        """The same nodes, counting encoder layers only; to be asked of a tree with a ``/``."""
        return self._counting(self._encoder_layers)

    @property
    def decoder(self) -> "Tree":
        """The same nodes, counting decoder layers only; the tree itself without a ``/``."""
        if not self.spans_encoder:
            return self
        return self._counting(lambda node: node.layers - self._encoder_layers(node))

    def encoder_end(self, node: Node) -> Optional[Node]:
        """The node at or above this one with the ``/``: the end of the encoder it reads.

        ``None`` for a node that belongs to encoders only, and in a tree without ``/``.
        """
        above: Optional[Node] = node
        while above is not None and above.cut is None:
            above = None if above.parent is None else self.nodes[above.parent]
        return above

    @property
    def encoder_ends(self) -> Tuple[Node, ...]:
        """The nodes with a ``/``, in preorder: one for every encoder, the leader's first."""
        return tuple(node for node in self.nodes if node.cut is not None)

    def fork_shares(self) -> Dict[int, float]:
        """By node: 1 / number of branches of the fork it starts at.

        Forks without layers between them count as one, whose branches' shares add up to 1.
        """
        shares = {0: 1.0}
        for node in self.nodes:
            above = 1.0 if node.layers else shares[node.index]
            shares.update(dict.fromkeys(node.children, above / max(1, len(node.children))))
        return shares

    def _encoder_layers(self, node: Node) -> int:
        if node.cut is not None:
            return node.cut
        return node.layers if self.encoder_end(node) is None else 0

    def _counting(self, layers: Callable[[Node], int]) -> "Tree":
        nodes: List[Node] = []
        for node in self.nodes:
            start = 0 if node.parent is None else nodes[node.parent].stop
            nodes.append(replace(node, layers=layers(node), start=start, cut=None))
        return Tree(tuple(nodes))

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
        head = str(node)
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
        return f"{node}({children})" if children else str(node)

    def __repr__(self) -> str:
        return f"Tree.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and self.nodes == other.nodes

    def __hash__(self) -> int:
        return hash(self.nodes)


def _check_paths(tree: Tree) -> None:
    """Refuses a leader without layers, and a path without a ``/`` or without a decoder."""
    if tree.depth == 0:
        raise ValueError(
            f"tree '{tree}' has a leader (first) path of 0 layers; "
            f"give the first path at least one layer, for instance '0(1,1)'"
        )
    if not tree.spans_encoder:
        return
    for number, (leaf, end) in enumerate(zip(tree.leaves, tree.decoder.leaves)):
        if tree.encoder_end(leaf) is None:
            raise ValueError(
                f"tree '{tree}' has no '/' on the path to leaf {number}; every path needs one, "
                f"where its decoder begins, or the whole tree has none"
            )
        if end.stop == 0:
            raise ValueError(
                f"tree '{tree}' has no layer after the '/' on the path to leaf {number}; give "
                f"its decoder at least one layer"
            )


def _check_depth(tree: Tree, kind: str, own: int, depth: int) -> None:
    if own != depth:
        raise ValueError(
            f"the leader (first) path of tree '{tree}' has {own} {kind}layers, but the "
            f"network is {depth} {kind}layers deep; make the first path add up to {depth}"
        )


def _preset_depth(depth: int) -> int:
    if not 1 <= depth <= MAX_PRESET_DEPTH:
        raise ValueError(
            f"tree presets are defined for depths 1 to {MAX_PRESET_DEPTH}, got depth {depth}; "
            f"write the tree out, for instance '4(2,2,2,2)'"
        )
    return depth


class _Parser:
    """Recursive descent over ``tree := number [ "/" number ] [ "(" tree { "," tree } ")" ]``."""

    def __init__(self, text: str):
        self.text = text
        self.position = 0
        self.total = 0
        self.nodes: List[Optional[Node]] = []

    def parse(self) -> Tuple[Node, ...]:
        self._node(parent=None, start=0, level=1, crossed=False)
        if self._peek():
            opening = "'(' or " if self._number_just_read() else ""
            raise self._error(f"expected {opening}the end of the tree")
        return tuple(node for node in self.nodes if node is not None)

    def _node(self, parent: Optional[int], start: int, level: int, crossed: bool) -> int:
        if level > MAX_LEVELS:
            raise self._error(f"expected at most {MAX_LEVELS} levels", f"level {level}")
        layers, cut = self._layers(crossed)
        below = (start + layers, level + 1, crossed or cut is not None)
        index = len(self.nodes)
        self.nodes.append(None)  # reserves the preorder position
        children: List[int] = []
        if self._peek() == "(":
            self.position += 1
            children.append(self._node(index, *below))
            while self._separator() == ",":
                children.append(self._node(index, *below))
        self.nodes[index] = Node(index, layers, start, parent, tuple(children), cut)
        return index

    def _layers(self, crossed: bool) -> Tuple[int, Optional[int]]:
        """A node's number of layers, and how many of them stand before its ``/``."""
        layers, cut = self._number(), None
        while self._peek() == "/":
            if crossed or cut is not None:
                raise self._error("expected at most one '/' on a path", "another one")
            self.position += 1
            cut = layers
            layers += self._number()
        return layers, cut

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


def _network_thirds(encoder: int, decoder: int) -> str:
    """TSA's balanced tree over the whole network, as the papers cut it: thirds of its depth.

    Where two parts meet at the end of the encoder, the upper one ends with the ``/``.
    """
    third = _third(encoder + decoder)
    root = encoder + decoder - 2 * third

    def part(start: int, layers: int) -> str:
        cut = encoder - start
        return f"{cut}/{layers - cut}" if 0 < cut <= layers else str(layers)

    leaf = part(root + third, third)
    half = f"{part(root, third)}({leaf},{leaf})"
    return f"{part(0, root)}({half},{half})"


PRESETS: Dict[str, Callable[[int], str]] = {
    "chain": _chain,
    "tsa": _balanced,
    "tsa_unbalanced": _unbalanced,
    "fork": _fork,
    "ladder": _ladder,
    "peers": _peers,
}
"""Trees of decoder layers, or of a network without an encoder, by its depth."""

NETWORK_PRESETS: Dict[str, Callable[[int, int], str]] = {"tsa_network": _network_thirds}
"""Trees over an encoder and a decoder, by the depth of each."""
