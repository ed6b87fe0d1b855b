"""The notation of trees, its presets and everything a tree knows about itself."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsa_mt.tree import MAX_LAYERS, MAX_LEVELS, PRESETS, Tree

# A busy machine may stall any example; only wrong answers shall fail.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# A tree as plain data: (layers, [children]).
plain_trees = st.recursive(
    st.tuples(st.integers(0, 20), st.just([])),
    lambda below: st.tuples(st.integers(0, 20), st.lists(below, min_size=1, max_size=4)),
    max_leaves=15,
)


def tokens(plain):
    """The notation's tokens, written independently of the parser."""
    layers, children = plain
    inside = [part for child in children for part in [",", *tokens(child)]][1:]
    return [str(layers), *(["(", *inside, ")"] if children else [])]


def leader_depth(plain):
    layers, children = plain
    return layers + (leader_depth(children[0]) if children else 0)


def as_plain(tree, index=0):
    node = tree.nodes[index]
    return (node.layers, [as_plain(tree, child) for child in node.children])


deep_enough = plain_trees.filter(lambda plain: leader_depth(plain) > 0)


@patient
@given(deep_enough)
def test_a_notation_is_read_and_written_back(plain):
    text = "".join(tokens(plain))
    tree = Tree.parse(text)
    assert str(tree) == text
    assert as_plain(tree) == plain
    assert eval(repr(tree)) == tree == Tree.parse(str(tree))
    assert hash(tree) == hash(Tree.parse(text))


@patient
@given(deep_enough, st.data())
def test_white_space_between_tokens_is_ignored(plain, data):
    space = st.text(alphabet=" \t\n\u00a0", max_size=2)
    spaced = "".join(data.draw(space) + token for token in tokens(plain)) + data.draw(space)
    assert Tree.parse(spaced) == Tree.parse("".join(tokens(plain)))


@patient
@given(deep_enough)
def test_nodes_know_their_span_parent_and_children(plain):
    tree = Tree.parse("".join(tokens(plain)))
    for index, node in enumerate(tree.nodes):
        assert node.index == index
        assert node.stop - node.start == node.layers
        assert node.is_leaf == (not node.children)
        for child in node.children:
            assert tree.nodes[child].parent == index
            assert tree.nodes[child].start == node.stop
    assert [node.index for node in tree.nodes if node.parent is None] == [0]
    assert tree.nodes[0].start == 0
    assert tree.layers == sum(node.layers for node in tree.nodes)


@patient
@given(deep_enough)
def test_a_path_leads_from_the_root_to_every_leaf_and_the_first_is_the_leader(plain):
    tree = Tree.parse("".join(tokens(plain)))
    assert [path[-1] for path in tree.paths] == list(tree.leaves)
    for path in tree.paths:
        assert path[0] is tree.nodes[0]
        assert path[-1].is_leaf
        assert all(below.parent == above.index for above, below in pairwise(path))
        assert path[-1].stop == sum(node.layers for node in path)
    assert tree.leader == tree.paths[0]
    assert tree.depth == leader_depth(plain)


@patient
@given(deep_enough)
def test_the_drawing_has_a_line_for_every_leaf_with_the_layers_of_its_own_nodes(plain):
    tree = Tree.parse("".join(tokens(plain)))
    lines = tree.draw().splitlines()
    assert len(lines) == len(tree.leaves)
    drawn = set()
    for number, (line, path) in enumerate(zip(lines, tree.paths, strict=True)):
        own = [node for node in path if node.index not in drawn]  # shared ones stand further up
        drawn |= {node.index for node in path}
        numbers = line.split("leaf")[0].translate(str.maketrans("─┬├└│", "     ")).split()
        assert numbers == [str(node.layers) for node in own]
        assert line.endswith(f"leaf {number}" + (", the leader" if number == 0 else ""))


def test_the_drawing_of_the_balanced_tree():
    assert Tree.parse("2(2(2,2),2(2,2))").draw() == (
        "2 ─┬─ 2 ─┬─ 2   leaf 0, the leader\n"
        "   │     └─ 2   leaf 1\n"
        "   └─ 2 ─┬─ 2   leaf 2\n"
        "         └─ 2   leaf 3"
    )


def test_the_drawing_of_a_chain_and_of_an_only_child():
    assert Tree.parse("6").draw() == "6   leaf 0, the leader"
    assert Tree.parse("10(2)").draw() == "10 ─── 2   leaf 0, the leader"


def test_trees_compare_by_notation_and_with_nothing_else():
    assert Tree.parse("4(2,2)") == Tree.parse(" 4 ( 2 , 2 ) ")
    assert Tree.parse("4(2,2)") != Tree.parse("4(2,2,2)")
    assert Tree.parse("6") != "6"


# --- malformed notations ------------------------------------------------------------------------

MALFORMED = [
    ("", 1, "expected a number of layers, found nothing more"),
    ("   ", 4, "expected a number of layers, found nothing more"),
    ("4(2,2", 6, "expected '(', ',' or ')', found nothing more"),
    ("2(2(2,2)", 9, "expected ',' or ')', found nothing more"),
    ("4(", 3, "expected a number of layers, found nothing more"),
    ("4(2,", 5, "expected a number of layers, found nothing more"),
    ("4(2,2))", 7, "expected the end of the tree, found ')'"),
    ("4(2,2)6", 7, "expected the end of the tree, found '6'"),
    ("4,2", 2, "expected '(' or the end of the tree, found ','"),
    ("4 2", 3, "expected '(' or the end of the tree, found '2'"),
    ("2(1 1)", 5, "expected '(', ',' or ')', found '1'"),
    ("6x", 2, "expected '(' or the end of the tree, found 'x'"),
    ("4()", 3, "expected a number of layers, found ')'"),
    ("4(2,,2)", 5, "expected a number of layers, found ','"),
    ("4(,2)", 3, "expected a number of layers, found ','"),
    ("4(2;2)", 4, "expected '(', ',' or ')', found ';'"),
    ("4(2]", 4, "expected '(', ',' or ')', found ']'"),
    ("(2,2)", 1, "expected a number of layers, found '('"),
    ("4(a,2)", 3, "expected a number of layers, found 'a'"),
    ("-4(2)", 1, "expected a number of layers, found '-'"),
    ("4(2,-2)", 5, "expected a number of layers, found '-'"),
    ("4(2.5,2)", 4, "expected '(', ',' or ')', found '.'"),
    ("4(+2)", 3, "expected a number of layers, found '+'"),
    ("4(\u0662)", 3, "expected a number of layers, found '\u0662'"),  # an Arabic-Indic two
    ("4(\u00b2)", 3, "expected a number of layers, found '\u00b2'"),  # a superscript two
    ("4(\uff12)", 3, "expected a number of layers, found '\uff12'"),  # a full-width two
    ("1001", 1, f"expected at most {MAX_LAYERS} layers in the whole tree, found more"),
    ("500(500,1)", 9, f"expected at most {MAX_LAYERS} layers in the whole tree, found more"),
    ("9" * 5000, 1, f"expected at most {MAX_LAYERS} layers in the whole tree, found more"),
    ("1(" * 64 + "1" + ")" * 64, 129, f"expected at most {MAX_LEVELS} levels, found level 65"),
    ("1(" * 5000, 129, f"expected at most {MAX_LEVELS} levels, found level 65"),
]


@pytest.mark.parametrize(
    ("text", "column", "message"), MALFORMED, ids=[text[:12] for text, _, _ in MALFORMED]
)
def test_a_malformed_notation_is_explained_with_a_caret_under_the_column(text, column, message):
    with pytest.raises(ValueError, match="malformed tree") as caught:
        Tree.parse(text)
    first, shown, caret = str(caught.value).splitlines()
    assert first == f"malformed tree: column {column}: {message}"
    assert shown == "  " + text
    assert caret == "  " + " " * (column - 1) + "^"


def test_the_caret_stays_under_its_column_after_line_breaks_and_tabs():
    with pytest.raises(ValueError) as caught:
        Tree.parse("4\n(\t2 x)")
    assert str(caught.value) == (
        "malformed tree: column 7: expected '(', ',' or ')', found 'x'\n  4 ( 2 x)\n        ^"
    )


def test_the_largest_allowed_trees_are_read():
    deepest = "1(" * (MAX_LEVELS - 1) + "1" + ")" * (MAX_LEVELS - 1)
    assert Tree.parse(deepest).depth == MAX_LEVELS
    assert Tree.parse(f"500({MAX_LAYERS - 500})").layers == MAX_LAYERS
    assert Tree.parse("0" * 5000 + "6") == Tree.parse("6")


@pytest.mark.parametrize("text", ["0", " 0(0,6) ", "0(0(0),3)"])
def test_a_leader_without_layers_is_refused(text):
    message = r"'0.*has a leader \(first\) path of 0 layers; .*'0\(1,1\)'"
    with pytest.raises(ValueError, match=message):
        Tree.parse(text)


def test_a_branching_point_and_an_early_exit_need_no_layers():
    tree = Tree.parse("0(6,3(0,3))")
    assert [path[-1].stop for path in tree.paths] == [6, 3, 6]


# --- presets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", range(1, 49))
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fits_every_depth(name, depth):
    tree = Tree.preset(name, depth)
    assert tree.depth == depth
    assert all(node.layers > 0 for node in tree.nodes if node.parent is not None)
    if name != "ladder":
        assert {path[-1].stop for path in tree.paths} == {depth}
    assert len(tree.leaves) == {"chain": 1, "tsa_unbalanced": min(4, depth + 1)}.get(name, 4)


@pytest.mark.parametrize(
    ("name", "depth", "notation"),
    [
        ("chain", 6, "6"),
        ("tsa", 6, "2(2(2,2),2(2,2))"),
        ("fork", 6, "4(2,2,2,2)"),
        ("peers", 6, "0(6,6,6,6)"),
        ("ladder", 6, "4(2,3,4,5)"),
        ("tsa_unbalanced", 6, "3(1(1(1,1),2),3)"),
        ("tsa", 15, "5(5(5,5),5(5,5))"),
        ("ladder", 15, "10(5,9,13,17)"),
        ("fork", 15, "10(5,5,5,5)"),
        ("tsa_unbalanced", 15, "6(3(3(3,3),6),9)"),
        ("tsa", 8, "4(2(2,2),2(2,2))"),
        ("tsa", 4, "2(1(1,1),1(1,1))"),
        ("tsa", 2, "0(1(1,1),1(1,1))"),
        ("tsa", 1, "0(1,1,1,1)"),
        ("fork", 1, "0(1,1,1,1)"),
        ("tsa_unbalanced", 1, "0(1,1)"),
    ],
)
def test_presets_are_the_published_trees(name, depth, notation):
    assert str(Tree.preset(name, depth)) == notation


@pytest.mark.parametrize("depth", range(1, 49))
def test_the_balanced_preset_doubles_twice_and_leaves_the_remainder_to_the_trunk(depth):
    tree = Tree.preset("tsa", depth)
    trunk, lowest = tree.nodes[0].layers, tree.leaves[0].layers
    assert trunk >= lowest or depth <= 2
    assert depth < 3 or trunk - lowest == depth % 3


@pytest.mark.parametrize("depth", [0, -1, 49])
def test_a_preset_of_impossible_depth_is_refused(depth):
    message = f"presets are defined for depths 1 to 48, got depth {depth}; write the tree out"
    with pytest.raises(ValueError, match=message):
        Tree.preset("tsa", depth)


# --- resolve ------------------------------------------------------------------------------------


def test_resolve_takes_a_notation_or_a_preset():
    assert Tree.resolve(" fork ", 6) == Tree.resolve("4 (2,2,2,2)", 6) == Tree.parse("4(2,2,2,2)")


@pytest.mark.parametrize("name", ["tsaa", "TSA", "x(2,2)", "\u0442\u0441\u0430"])
def test_an_unknown_preset_is_answered_with_the_known_ones(name):
    with pytest.raises(ValueError, match="unknown tree preset") as caught:
        Tree.resolve(name, 6)
    assert repr(name) in str(caught.value)
    assert f"choose one of {', '.join(PRESETS)}, or write the tree out" in str(caught.value)


@pytest.mark.parametrize(("text", "own"), [("2(2,2)", 4), ("6(1,0)", 7), ("5(0,1)", 5)])
def test_a_tree_whose_leader_is_not_the_network_s_depth_is_refused(text, own):
    with pytest.raises(ValueError, match="make the first path add up to 6") as caught:
        Tree.resolve(text, 6)
    assert f"path of tree '{text}' has {own} layers, but the network is 6" in str(caught.value)


def test_a_malformed_tree_is_explained_by_resolve_too():
    with pytest.raises(ValueError, match="column 6: expected .* found nothing more"):
        Tree.resolve("4(2,2", 6)
