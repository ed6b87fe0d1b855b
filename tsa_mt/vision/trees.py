"""Trees of image networks: the published cuts of every backbone.

A preset means another tree for every backbone, because each paper cuts each network somewhere else:

* ``tsa`` is the balanced 1-2-4 tree, cut where TSA's code cuts (thirds where it has none);
* ``fork`` is OKDDip's and ONE's: everything but the last stage is shared by four branches;
* ``ladder`` is AHBF's: as the fork, with 4, 8 and 12 more units in the second to fourth branch;
* ``peers`` are four whole networks with a stem of their own, as in DML;
* ``chain`` is the plain network, ``tsa_unbalanced`` a caterpillar (see `tsa_mt.tree`).
"""

from typing import Callable, Dict

from tsa_mt.tree import Tree
from tsa_mt.vision.backbone import GROWTH_STEP, Backbone

BRANCHES = 4


def _balanced(backbone: Backbone) -> str:
    third = max(1, backbone.depth // 3)
    root, middle, last = backbone.cuts or (backbone.depth - 2 * third, third, third)
    half = f"{middle}({last},{last})"
    return f"{root}({half},{half})"


def _fork(backbone: Backbone) -> str:
    own = backbone.fork or backbone.stages[-1]
    return f"{backbone.depth - own}({','.join([str(own)] * BRANCHES)})"


def _ladder(backbone: Backbone) -> str:
    own = backbone.ladder or backbone.stages[-1]
    branches = ",".join(str(own + GROWTH_STEP * index) for index in range(BRANCHES))
    return f"{backbone.depth - own}({branches})"


def _peers(backbone: Backbone) -> str:
    return f"0({','.join([str(backbone.depth)] * BRANCHES)})"


PRESETS: Dict[str, Callable[[Backbone], str]] = {
    "chain": lambda backbone: str(backbone.depth),
    "tsa": _balanced,
    "fork": _fork,
    "ladder": _ladder,
    "peers": _peers,
}
"""Presets that depend on the backbone; any other name is one of `tsa_mt.tree`'s."""


def resolve_tree(text: str, backbone: Backbone) -> Tree:
    """The tree for a backbone from a notation or a preset's name.

    Args:
        text: A notation that counts the backbone's units, or a preset.
        backbone: What is grown into a tree.

    Raises:
        ValueError: The notation is malformed, the leader is not as long as the backbone, or a
            branch ends before the last stage.
    """
    name = text.strip()
    tree = Tree.resolve(PRESETS[name](backbone) if name in PRESETS else text, backbone.depth)
    for leaf in tree.leaves:
        backbone.stages_for(leaf.start, leaf.stop)
    return tree
