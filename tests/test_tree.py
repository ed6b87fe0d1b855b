"""The notation of trees, its presets and everything a tree knows about itself."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsa_mt.tree import MAX_LAYERS, MAX_LEVELS, NETWORK_PRESETS, PRESETS, Tree

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


# --- over the whole network ---------------------------------------------------------------------


def cut_trees(encoders):
    """Plain trees of which every path has a cut: (layers, layers after the cut or None, children).

    Below a cut stand decoder layers, above it encoder layers.
    """
    below = plain_trees.map(lambda plain: _decoder_only(plain))
    crossing = st.tuples(st.integers(0, 9), st.integers(1, 9), st.lists(below, max_size=3))
    return st.recursive(
        crossing,
        lambda lower: st.tuples(
            st.integers(0, 9), st.none(), st.lists(lower, min_size=1, max_size=3)
        ),
        max_leaves=encoders,
    )


def _decoder_only(plain):
    layers, children = plain
    return (layers, None, [_decoder_only(child) for child in children])


def written(plain):
    """The notation of such a tree, written independently of `Tree`."""
    layers, after, children = plain
    inside = ",".join(written(child) for child in children)
    head = f"{layers}" if after is None else f"{layers}/{after}"
    return f"{head}({inside})" if children else head


def sides(plain, crossed=False):
    """The encoder layers and decoder layers on the path to every leaf, left to right."""
    layers, after, children = plain
    own = (0, layers) if crossed else (layers, after or 0)
    if not children:
        return [own]
    lower = [pair for child in children for pair in sides(child, crossed or after is not None)]
    return [(own[0] + encoder, own[1] + decoder) for encoder, decoder in lower]


@patient
@given(cut_trees(4))
def test_a_tree_over_the_network_knows_where_every_path_s_decoder_begins(plain):
    text = written(plain)
    tree = Tree.parse(text)
    assert str(tree) == text
    assert tree.spans_encoder and eval(repr(tree)) == tree
    assert Tree.parse(text.replace("/", " / ")) == tree
    encoder, decoder = tree.encoder, tree.decoder
    assert [(e.stop, d.stop) for e, d in zip(encoder.leaves, decoder.leaves)] == sides(plain)
    for node in tree.nodes:
        above, below = encoder.nodes[node.index], decoder.nodes[node.index]
        assert above.layers + below.layers == node.layers
        assert above.children == below.children == node.children
        assert above.start + below.start == node.start
        assert node.cut is None or (above.layers == node.cut)
    for path in tree.paths:
        (end,) = [node for node in path if node.cut is not None]
        below = path[path.index(end) :]
        assert all(tree.encoder_end(node) is end for node in below)
        assert all(tree.encoder_end(node) is None for node in path if node not in below)
    assert len(tree.encoder_ends) == text.count("/")


def test_without_a_slash_all_layers_are_the_decoder_s():
    tree = Tree.parse("2(2,2)")
    assert not tree.spans_encoder and not tree.encoder_ends
    assert tree.decoder is tree


def test_the_drawing_of_a_tree_over_the_network():
    assert Tree.parse("4(2/2(4,4),2/2(4,4))").draw() == (
        "4 ─┬─ 2/2 ─┬─ 4   leaf 0, the leader\n"
        "   │       └─ 4   leaf 1\n"
        "   └─ 2/2 ─┬─ 4   leaf 2\n"
        "           └─ 4   leaf 3"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("6/2(2,2/2)", "column 8: expected at most one '/' on a path, found another one"),
        ("6/2/2", "column 4: expected at most one '/' on a path, found another one"),
        ("6/", "column 3: expected a number of layers, found nothing more"),
        ("6//2", "column 3: expected a number of layers, found '/'"),
        ("4(/2,2/2)", "column 3: expected a number of layers, found '/'"),
        ("4(2/4,2)", r"tree '4\(2/4,2\)' has no '/' on the path to leaf 1; every path needs one, "),
        ("4(2,2/4)", "has no '/' on the path to leaf 0; every path needs one, where its decoder"),
        ("4(2/4,2/0)", "has no layer after the '/' on the path to leaf 1; give its decoder at"),
        ("6/0", "has no layer after the '/' on the path to leaf 0"),
        ("0/0(6,6)(1)", "column 9: expected the end of the tree"),
    ],
)
def test_a_slash_out_of_place_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        Tree.parse(text)


def test_forks_without_layers_between_them_share_as_one():
    assert Tree.parse("1(0(1,1),1)").fork_shares() == {0: 1, 1: 1 / 2, 2: 1 / 4, 3: 1 / 4, 4: 1 / 2}
    assert Tree.parse("1(1(1,1),1)").fork_shares() == {0: 1, 1: 1 / 2, 2: 1 / 2, 3: 1 / 2, 4: 1 / 2}


def test_peers_get_encoders_of_their_own():
    assert str(Tree.parse("0(6,3(1,2))").with_own_encoders(4)) == "0(4/6,4/3(1,2))"


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


@pytest.mark.parametrize("encoder", range(1, 49, 5))
def test_the_network_preset_is_the_balanced_tree_of_all_layers(encoder):
    for decoder in range(1, 49):
        tree = Tree.preset("tsa_network", decoder, encoder)
        assert (tree.encoder.depth, tree.decoder.depth) == (encoder, decoder)
        whole = Tree.parse(PRESETS["tsa"](encoder + decoder))
        assert [replace(node, cut=None) for node in tree.nodes] == list(whole.nodes)


@pytest.mark.parametrize(
    ("encoder", "decoder", "notation"),
    [
        (6, 6, "4(2/2(4,4),2/2(4,4))"),
        (4, 4, "4/0(2(2,2),2(2,2))"),
        (8, 4, "4(4/0(4,4),4/0(4,4))"),
        (12, 1, "5(4(3/1,3/1),4(3/1,3/1))"),
        (2, 10, "2/2(4(4,4),4(4,4))"),
        (1, 1, "0(1/0(1,1),1/0(1,1))"),
    ],
)
def test_the_network_preset_cuts_the_network_into_thirds(encoder, decoder, notation):
    assert str(Tree.preset("tsa_network", decoder, encoder)) == notation


@pytest.mark.parametrize(("encoder", "decoder", "bad"), [(0, 6, 0), (6, 49, 49)])
def test_a_network_preset_of_impossible_depth_is_refused(encoder, decoder, bad):
    with pytest.raises(ValueError, match=f"defined for depths 1 to 48, got depth {bad}; write"):
        Tree.preset("tsa_network", decoder, encoder)


def test_a_network_without_encoder_has_no_network_preset_and_no_slash():
    with pytest.raises(ValueError, match="'tsa_network' divides an encoder and a decoder together"):
        Tree.resolve("tsa_network", 9)
    with pytest.raises(
        ValueError, match="tree '6/3' has a '/', which marks where a decoder begins"
    ):
        Tree.resolve("6/3", 9)


# --- resolve ------------------------------------------------------------------------------------


def test_resolve_takes_a_notation_or_a_preset():
    assert Tree.resolve(" fork ", 6) == Tree.resolve("4 (2,2,2,2)", 6) == Tree.parse("4(2,2,2,2)")


@pytest.mark.parametrize("name", ["tsaa", "TSA", "x(2,2)", "\u0442\u0441\u0430"])
def test_an_unknown_preset_is_answered_with_the_known_ones(name):
    with pytest.raises(ValueError, match="unknown tree preset") as caught:
        Tree.resolve(name, 6)
    assert repr(name) in str(caught.value)
    known = ", ".join([*PRESETS, *NETWORK_PRESETS])
    assert f"choose one of {known}, or write the tree out" in str(caught.value)


@pytest.mark.parametrize(("text", "own"), [("2(2,2)", 4), ("6(1,0)", 7), ("5(0,1)", 5)])
def test_a_tree_whose_leader_is_not_the_network_s_depth_is_refused(text, own):
    with pytest.raises(ValueError, match="make the first path add up to 6") as caught:
        Tree.resolve(text, 6)
    assert f"path of tree '{text}' has {own} layers, but the network is 6" in str(caught.value)


def test_a_malformed_tree_is_explained_by_resolve_too():
    with pytest.raises(ValueError, match="column 6: expected .* found nothing more"):
        Tree.resolve("4(2,2", 6)
