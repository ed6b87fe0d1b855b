"""Trees over the whole network: encoders that branch, and decoders that read their own."""

from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator

from tsa_mt.export.leader import plain_transformer

PREPARATION = SimpleNamespace(
    generation=SimpleNamespace(no_beamable_mm=True, print_alignment=None, retain_dropout=False)
)
# Encoders of two layers and decoders of three on the leader's path.
NETWORKS = [
    "2/3",
    "2/1(2,2)",  # all branching in the decoder
    "1(1/1(2,2),1/1(2,2))",  # the balanced tree over the whole network
    "0(2/3,2/3,2/3)",  # whole networks
    "1(1/3,0/3,2/1(1,0(1,2)))",  # an early exit of the encoder, a longer encoder, another fork
    "1(0(1/3,2/2),1(0/1(2,2)))",  # a branching point and an only child inside the encoder
    "0(2/3,1(1/3,0/2))",  # a whole network that forks again
]
FORKED = NETWORKS[2:]
VARIANTS = {
    "plain": {},
    "rich": {
        "encoder_normalize_before": True,
        "decoder_normalize_before": True,
        "encoder_learned_pos": True,
        "layernorm_embedding": True,
    },
}


def inputs(sample):
    return sample()["net_input"]


def loss_of(features):
    """A scalar to which every leaf contributes differently."""
    return sum((k + 1) * (feature**2).mean() for k, feature in enumerate(features))


def modules_on(model, leaf):
    """The encoder layers and decoder layers on a leaf's path, looked up by their names."""
    tree = model.tree
    leader = {node.index for node in tree.leader}
    found = {}
    for side, part in (("encoder", tree.encoder), ("decoder", tree.decoder)):
        own = model.encoder.branches if side == "encoder" else model.decoder.branches.nodes
        found[side] = []
        for node in part.paths[leaf]:
            if node.index in leader:
                found[side] += getattr(model, side).layers[node.start : node.stop]
            elif node.layers:
                layers = own[str(node.index)]
                found[side] += layers.layers if side == "encoder" else layers
    return found


def tied_leaf(stock, model, leaf, **options):
    """A stock Transformer for one leaf that is made of the very modules of the tree."""
    parts = modules_on(model, leaf)
    depths = {f"{side}_layers": len(layers) for side, layers in parts.items()}
    alone = stock(**options, **depths).eval()
    for side, layers in parts.items():
        ours, theirs = getattr(model, side), getattr(alone, side)
        theirs.layers = torch.nn.ModuleList(layers)
        for part in ("embed_tokens", "embed_positions", "layernorm_embedding", "layer_norm"):
            setattr(theirs, part, getattr(ours, part))
    for node in model.tree.paths[leaf]:
        branch = dict(model.encoder.branches).get(str(node.index))
        for part in ("embed_positions", "layernorm_embedding", "layer_norm"):
            if getattr(branch, part, None) is not None:
                setattr(alone.encoder, part, getattr(branch, part))
    if leaf and alone.decoder.layer_norm is not None:
        alone.decoder.layer_norm = model.decoder.branches.layer_norms[str(leaf)]
    return alone


def stirred(model):
    """Moves norms away from their initial ones, so that using the wrong one shows."""
    generator = torch.Generator().manual_seed(9)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            for parameter in module.parameters():
                parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture
def network(tree):
    def function(notation, **options):
        return stirred(tree(notation, **options))

    return function


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("notation", FORKED)
def test_values_and_gradients_are_those_of_one_stock_transformer_a_leaf_with_tied_modules(
    notation, variant, network, stock, sample
):
    options = VARIANTS[variant]
    model, batch = network(notation, **options), inputs(sample)
    outputs = model(**batch, branches=True).features
    loss_of(outputs).backward()
    ours = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    leaves = [tied_leaf(stock, model, k, **options) for k in range(len(model.tree.leaves))]
    features = [alone(**batch, features_only=True)[0] for alone in leaves]
    loss_of(features).backward()
    theirs = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    real = batch["prev_output_tokens"].ne(1)
    for own, alone in zip(outputs, features, strict=True):
        torch.testing.assert_close(own[real], alone[real], rtol=1e-5, atol=1e-6)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("notation", FORKED)
def test_every_leaf_decodes_like_the_stock_network_of_its_path(
    notation, variant, network, tree, leaf_alone, sample
):
    options, batch = VARIANTS[variant], inputs(sample)
    model = network(notation, **options)
    probabilities = []
    for leaf in range(len(model.tree.leaves)):
        decoding = tree(notation, decode_branch=leaf, **options).eval()
        decoding.load_state_dict(model.state_dict(), strict=True)
        expected = leaf_alone(model, leaf, **options)(**batch)[0]
        torch.testing.assert_close(decoding(**batch)[0], expected, rtol=1e-5, atol=1e-6)
        probabilities.append(expected.softmax(-1))
    with model.deciding_together():
        mean = torch.stack(probabilities).mean(0).log()
        torch.testing.assert_close(model(**batch)[0], mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_leader_is_the_stock_network_bit_for_bit(variant, tree, stock, sample):
    options = VARIANTS[variant]
    for notation in FORKED:
        model, plain = (build(seed=5, **options).eval() for build in (_of(tree, notation), stock))
        leader = {k: v for k, v in model.state_dict().items() if ".branches." not in k}
        assert list(leader) == list(plain.state_dict())
        assert all(torch.equal(leader[k], v) for k, v in plain.state_dict().items())
        assert torch.equal(model(**inputs(sample))[0], plain(**inputs(sample))[0])


def _of(tree, notation):
    return lambda **options: tree(notation, **options)


def trained_once(model, sample):
    """Features, and the gradients of a loss over them, with dropout."""
    torch.manual_seed(2)
    features = model.train()(**inputs(sample), branches=True).features
    loss_of(features).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return features, gradients


@pytest.mark.parametrize("objective", ["tsa", "cl_ilr"])
@pytest.mark.parametrize(
    ("over_network", "before", "options"),
    [
        ("2/1(1(1,2),2)", "1(1(1,2),2)", {}),
        ("2/0(3,3)", "0(3,3)", {}),
        ("0(2/3,2/2)", "0(3,2)", {"peer_encoders": True}),
    ],
)
def test_a_tree_that_could_be_written_before_is_the_same_network_bit_for_bit(
    over_network, before, options, objective, tree, sample
):
    models = [
        tree(notation, dropout=0.2, kd_objective=objective, **more)
        for notation, more in ((over_network, {}), (before, options))
    ]
    states = [model.state_dict() for model in models]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    (ours, our_gradients), (theirs, their_gradients) = (trained_once(m, sample) for m in models)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert our_gradients.keys() == their_gradients.keys()
    assert all(torch.equal(our_gradients[k], g) for k, g in their_gradients.items())


# --- what runs ----------------------------------------------------------------------------------


def counted(model):
    """Counts how often every layer of encoder and decoder runs."""
    counts = {}
    for name, module in model.named_modules():
        if hasattr(module, "final_layer_norm"):
            counts[name] = 0
            module.register_forward_hook(
                lambda *_, name=name: counts.update({name: counts[name] + 1})
            )
    return counts


@pytest.mark.parametrize("training", [False, True])
def test_with_branches_every_layer_of_encoders_and_decoders_runs_exactly_once(
    training, tree, sample
):
    model = tree(FORKED[2]).train(training)
    counts = counted(model)
    model(**inputs(sample), branches=True)
    assert len(counts) == model.tree.layers == 15
    assert set(counts.values()) == {1}


@pytest.mark.parametrize("leaf", range(5))
def test_decoding_a_leaf_runs_the_encoder_layers_of_its_path_and_the_leader_s(leaf, tree, sample):
    model = tree(FORKED[2], decode_branch=leaf).eval()
    counts = counted(model)
    model(**inputs(sample))
    ran = [name for name, count in counts.items() if count and name.startswith("encoder.")]
    assert len(ran) == (4 if leaf >= 2 else 2)  # leaves 2 to 4 read the longer encoder
    assert set(counts.values()) <= {0, 1}


def test_decoding_the_leader_runs_and_keeps_no_other_encoder(network, sample):
    model = network(FORKED[0])
    batch = inputs(sample)
    encoded = model.encoder(batch["src_tokens"], batch["src_lengths"])
    assert not any(":" in key for key in encoded)
    assert encoded["encoder_states"] == []
    model.prepare_for_inference_(PREPARATION)
    assert not any(".branches." in key for key in model.state_dict())


def test_an_encoder_tells_its_inner_states_where_they_are_asked_for(network, sample):
    model, batch = network(FORKED[2]), inputs(sample)
    encoded = model.encoder(
        batch["src_tokens"], batch["src_lengths"], return_all_hiddens=True, branches=True
    )
    assert {key: len(v) for key, v in encoded.items() if key.endswith("encoder_states")} == {
        "encoder_states": 3,
        "2:encoder_states": 1,
        "3:encoder_states": 3,
    }


@pytest.mark.parametrize("notation", [FORKED[0], FORKED[2]])
@pytest.mark.parametrize("branch", [1, 2, -1])
def test_beam_search_reorders_the_encoder_of_every_path(branch, notation, network, task, sample):
    model = network(notation, decode_branch=branch)
    generator = SequenceGenerator([model], task.target_dictionary, beam_size=3, max_len_b=6)
    batch = sample()
    found = generator.generate([model], batch)
    for number, hypotheses in enumerate(found):
        for hypothesis in hypotheses:
            tokens = hypothesis["tokens"]
            shifted = torch.cat([tokens[-1:], tokens[:-1]])[None]
            source = batch["net_input"]["src_tokens"][number : number + 1]
            lengths = batch["net_input"]["src_lengths"][number : number + 1]
            with torch.no_grad():
                logits, _ = model(source, lengths, shifted)
            scores = torch.log_softmax(logits[0], -1).gather(-1, tokens[:, None])[:, 0]
            expected = hypothesis["positional_scores"]
            torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("branch", [1, 2, -1])
def test_beam_search_over_a_path_is_that_of_its_plain_network(
    branch, network, leaf_alone, task, sample
):
    model = network(FORKED[2], decode_branch=branch)
    plain = [leaf_alone(model, leaf) for leaf in (range(5) if branch < 0 else [branch])]
    found = []
    for models in ([model], plain):
        generator = SequenceGenerator(models, task.target_dictionary, beam_size=4, max_len_b=10)
        hypotheses = generator.generate(models, sample(source=(5, 3, 4, 7, 2), target=(2,) * 5))
        found.append([[h["tokens"].tolist() for h in sentence] for sentence in hypotheses])
    assert found[0] == found[1]


def test_checkpointed_activations_change_no_gradient_of_an_encoder_s_branch(tree, sample):
    models = [
        tree(FORKED[0], dropout=0.3, **options)
        for options in ({}, {"checkpoint_activations": True})
    ]
    (_, ours), (_, theirs) = (trained_once(model, sample) for model in models)
    assert any(name.startswith("encoder.branches.") for name in ours)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-5, atol=1e-6)


def test_padding_of_the_source_changes_nothing(network, sample):
    model, batch = network(FORKED[2]), inputs(sample)
    padded = {**batch, "src_tokens": torch.nn.functional.pad(batch["src_tokens"], (2, 0), value=1)}
    for ours, same in zip(
        model(**batch, branches=True).features, model(**padded, branches=True).features, strict=True
    ):
        torch.testing.assert_close(ours, same, rtol=1e-4, atol=1e-5)


# --- parts --------------------------------------------------------------------------------------


def parts_of(model):
    names = [k.removeprefix("encoder.branches.") for k in model.state_dict()]
    found = {".".join(k.split(".")[:3]) for k in names if k[0].isdigit()}
    return {part for part in found if not part.endswith("version")}


def test_an_encoder_node_has_layers_and_only_an_encoder_s_end_a_norm(tree):
    options = VARIANTS["rich"]
    own = parts_of(tree("1(1/3,1(0/3,1/3))", **options))
    assert own == {"2.layers.0", "3.layer_norm.weight", "3.layer_norm.bias", "4.layers.0"} | {
        f"4.layer_norm.{kind}" for kind in ("weight", "bias")
    }


def test_a_node_that_starts_at_the_source_has_positions_and_a_norm_of_its_own(tree):
    model = tree("0(2/3,1/3)", **VARIANTS["rich"])
    own = parts_of(model)
    assert {"2.embed_positions.weight", "2.layernorm_embedding.weight", "2.layers.0"} <= own
    branch = model.encoder.branches["2"]
    assert branch.embed_tokens is model.encoder.embed_tokens
    assert not torch.equal(branch.embed_positions.weight, model.encoder.embed_positions.weight)


def test_branches_of_encoders_start_from_weights_of_their_own(tree):
    drawn = [p for p in tree(FORKED[2], seed=5).parameters() if p.dim() > 1]
    assert len({p.double().sum().item() for p in drawn}) == len(drawn)
    again = [p for p in tree(FORKED[2], seed=5).parameters() if p.dim() > 1]
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_a_leaf_s_loss_leaves_the_encoders_of_other_paths_alone(network, sample):
    model = network("1(1/3,1/3)")
    model(**inputs(sample), branches=True).features[1].sum().backward()
    assert model.encoder.get_parameter("layers.0.fc1.weight").grad.any()
    assert model.encoder.get_parameter("layers.1.fc1.weight").grad is None
    assert model.encoder.branches["2"].get_parameter("layers.0.fc1.weight").grad.any()


def test_copies_start_from_the_leader_s_encoder_at_their_depth(tree, stock):
    model = tree("1(1/3,2(0/3,1/3))", branch_init="copy", **VARIANTS["rich"])
    plain = stock(seed=9, **VARIANTS["rich"]).state_dict()
    model.load_state_dict(dict(plain), model_cfg=None)
    for node, layer, depth in ((2, 0, 1), (2, 1, 1), (4, 0, 1)):  # no layer beyond the last
        branch = model.encoder.branches[str(node)].layers[layer]
        assert torch.equal(branch.fc2.weight, plain[f"encoder.layers.{depth}.fc2.weight"])
    for end in "34":
        assert torch.equal(
            model.encoder.branches[end].layer_norm.weight, plain["encoder.layer_norm.weight"]
        )
    whole = tree("0(2/3,2/3)", branch_init="copy", **VARIANTS["rich"])
    whole.load_state_dict(dict(plain), model_cfg=None)
    branch = whole.encoder.branches["2"]
    assert torch.equal(branch.embed_positions.weight, plain["encoder.embed_positions.weight"])


# --- exports ------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("notation", FORKED)
def test_an_exported_leaf_is_the_stock_network_of_its_path(
    notation, variant, network, build, leaf_alone, sample
):
    model = network(notation, **VARIANTS[variant])
    config = {**vars(model.args_given), "_name": "tree_transformer"}
    checkpoint = {
        "model": model.state_dict(),
        "cfg": {"model": Namespace(**config), "task": {"_name": "translation"}, "criterion": {}},
    }
    for leaf in range(len(model.tree.leaves)):
        plain = plain_transformer(checkpoint, leaf)
        exported = build("transformer", **plain.options).eval()
        exported.load_state_dict(plain.weights, strict=True)
        expected = leaf_alone(model, leaf, **VARIANTS[variant])(**inputs(sample))[0]
        assert torch.equal(exported(**inputs(sample))[0], expected)


# --- --peer-encoders, the older way to say it ----------------------------------------------------

PEERS = "0(3,2,1(1,1))"  # leaves 2 and 3 share one of the three networks


def test_peer_encoders_are_written_into_the_tree(tree):
    model = tree(PEERS, peer_encoders=True)
    assert str(model.tree) == "0(2/3,2/2,2/1(1,1))"
    assert list(model.encoder.branches) == ["2", "3"]
    assert str(tree("", peer_encoders=True).tree) == "0(2/3,2/3,2/3,2/3)"


def test_a_checkpoint_of_peer_encoders_from_before_there_was_a_slash_loads(tree):
    """Its keys were those of a whole encoder for every child of the root but the leader."""
    model = tree(PEERS, peer_encoders=True, **VARIANTS["rich"])
    keys = {k for k in model.state_dict() if k.startswith("encoder.") and ".branches." not in k}
    for node in "23":
        before = {k.replace("encoder.", f"encoder.branches.{node}.", 1) for k in keys}
        assert before == {
            k for k in model.state_dict() if k.startswith(f"encoder.branches.{node}.")
        }


@pytest.mark.parametrize("notation", ["1(2,2)", "3"])
def test_a_tree_whose_branches_share_layers_has_no_peers(notation, tree):
    message = r"--peer-encoders: tree '.*' is not a set of whole networks; its root must have no"
    with pytest.raises(ValueError, match=message):
        tree(notation, peer_encoders=True)


def test_peer_encoders_and_a_slash_are_not_said_together(tree):
    message = r"--peer-encoders: tree '0\(2/3,2/3\)' says with '/' which encoders there are"
    with pytest.raises(ValueError, match=message):
        tree("0(2/3,2/3)", peer_encoders=True)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notation", "options", "message"),
    [
        ("1/3", {}, r"tree '1/3' has 1 encoder layers, but the network is 2 encoder layers deep"),
        ("2/2(2,2)", {}, r"has 4 decoder layers, but the network is 3 decoder layers deep"),
        ("2/1(2,2/2)", {}, "malformed tree: column 8: expected at most one '/' on a path"),
        ("1(1/3,4)", {}, "has no '/' on the path to leaf 1; every path needs one, where its dec"),
        ("2(0/3,1/0)", {}, "has no layer after the '/' on the path to leaf 1; give its decoder"),
        (
            "1(1/3,1/3)",
            {"encoder_layerdrop": 0.1},
            "--encoder-layerdrop: dropped layers would move",
        ),
        (
            "2/3",
            {"encoder_layers_to_keep": "0"},
            "--encoder-layers-to-keep: tree '2/3' needs every",
        ),
    ],
)
def test_what_a_tree_over_the_network_cannot_honour_is_refused(notation, options, message, tree):
    with pytest.raises(ValueError, match=message):
        tree(notation, **options)


def test_whole_encoders_may_drop_layers(tree, sample):
    model = tree("0(2/3,2/3)", encoder_layerdrop=0.5).train()
    assert len(model(**inputs(sample), branches=True).features) == 2
