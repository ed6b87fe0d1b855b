"""The tree Transformer's leader is a stock Transformer, and what cannot be is refused."""

import copy
from dataclasses import fields, is_dataclass
from types import SimpleNamespace

import pytest
import torch
from fairseq.dataclass.configs import GenerationConfig
from fairseq.models.transformer import TransformerConfig
from fairseq.sequence_generator import SequenceGenerator

VARIANTS = {
    "plain": {},
    "pre-norm": {"encoder_normalize_before": True, "decoder_normalize_before": True},
    "all shared": {"share_all_embeddings": True},
    "tied": {"share_decoder_input_output_embed": True},
    "embedding norm": {"layernorm_embedding": True},
    "learned positions": {"encoder_learned_pos": True, "decoder_learned_pos": True},
    "no positions": {"no_token_positional_embeddings": True},
    "narrow output": {"decoder_output_dim": 8},
    "narrow input": {"decoder_input_dim": 12, "encoder_embed_dim": 16},
    "cross self attention": {"cross_self_attention": True},
    "no cross attention": {"no_cross_attention": True},
    "activation": {"activation_fn": "gelu"},
}


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


def leader_state(model):
    return {key: value for key, value in model.state_dict().items() if ".branches." not in key}


def test_the_leader_s_parameters_are_exactly_the_stock_ones(tree, stock, variant):
    ours, theirs = leader_state(tree(**variant)), stock(**variant).state_dict()
    assert list(ours) == list(theirs)
    assert all(ours[key].shape == theirs[key].shape for key in ours)


@pytest.mark.parametrize("objective", ["tsa", "independent", "okddip"])
def test_the_same_seed_draws_the_plain_model_s_initial_weights(tree, stock, variant, objective):
    ours = leader_state(tree(**variant, seed=5, kd_objective=objective))
    theirs = stock(**variant, seed=5).state_dict()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_branches_start_from_weights_of_their_own(tree):
    model = tree(branch_projection="separate", share_decoder_input_output_embed=True)
    drawn = [p for p in model.parameters() if p.dim() > 1]
    assert len({p.double().sum().item() for p in drawn}) == len(drawn)
    own = model.decoder.branches.output_projections
    assert list(own) == ["1", "2"]
    spread = [projection.weight.std().item() for projection in own.values()]
    assert spread == pytest.approx([16**-0.5] * 2, rel=0.1)


@pytest.mark.parametrize("training", [False, True])
def test_by_default_forward_is_the_stock_one(tree, stock, sample, variant, training):
    ours, theirs = tree(**variant).train(training), stock(**variant).train(training)
    theirs.load_state_dict(leader_state(ours), strict=True)
    batch = sample()["net_input"]
    logits, extra = ours(**batch)
    expected, other = theirs(**batch)
    assert torch.equal(logits, expected)
    assert extra.keys() == other.keys()
    assert len(extra["inner_states"]) == len(other["inner_states"])
    if other["attn"][0] is not None:
        assert torch.equal(extra["attn"][0], other["attn"][0])
    assert torch.equal(ours(**batch, features_only=True)[0], theirs(**batch, features_only=True)[0])


def test_with_branches_the_leader_s_features_are_the_same(tree, sample, variant):
    model, batch = tree(**variant).eval(), sample()["net_input"]
    outputs = model(**batch, branches=True)
    assert torch.equal(outputs.features[0], model(**batch, features_only=True)[0])
    assert len({feature.shape for feature in outputs.features}) == 1
    assert len(outputs.features) == len(model.projections) == 3


def test_beam_search_gives_the_plain_model_s_translations(tree, stock, sample, task, variant):
    ours, theirs = tree(**variant).eval(), stock(**variant)
    theirs.load_state_dict(leader_state(ours), strict=True)
    found = []
    for model in (ours, theirs.eval()):
        generator = SequenceGenerator([model], task.target_dictionary, beam_size=3, max_len_b=8)
        hypotheses = generator.generate([model], sample())
        found.append([[(h["tokens"].tolist(), float(h["score"])) for h in s] for s in hypotheses])
    assert found[0] == found[1]


def test_projections_are_shared_unless_asked_otherwise(tree):
    shared = tree().projections
    assert all(projection.same(shared[0]) for projection in shared)
    model = tree(branch_projection="separate")
    separate = model.projections
    assert separate[0].weight is model.decoder.output_projection.weight
    assert len({id(projection.weight) for projection in separate}) == 3


def test_an_unset_tree_is_the_objective_s_own(build):
    assert str(build(decoder_layers=6).tree) == "2(2(2,2),2(2,2))"
    assert str(build(decoder_layers=6, kd_objective="independent").tree) == "6"
    assert str(build(decoder_layers=6, tree="fork").tree) == "4(2,2,2,2)"


def test_a_model_knows_how_many_updates_it_has_seen(tree):
    model = tree()
    assert model.num_updates == 0
    model.set_num_updates(7)
    assert model.num_updates == 7


# --- decoding only ------------------------------------------------------------------------------

PREPARATION = SimpleNamespace(generation=GenerationConfig())


def test_decoding_with_the_leader_frees_all_branches(tree, sample):
    model = tree(branch_projection="separate").eval()
    before = model(**sample()["net_input"])[0]
    size = len(leader_state(model))
    model.prepare_for_inference_(PREPARATION)
    assert len(model.state_dict()) == size
    assert torch.equal(model(**sample()["net_input"])[0], before)


@pytest.mark.parametrize("branch", [-1, 1, 2])
def test_decoding_with_another_leaf_is_unchanged_by_fairseq_s_preparation(tree, sample, branch):
    model = tree(decode_branch=branch, branch_projection="separate").eval()
    batch = sample()["net_input"]
    before = model(**batch)[0]
    model.prepare_for_inference_(PREPARATION)
    assert torch.equal(model(**batch)[0], before)


# --- refusals -----------------------------------------------------------------------------------

REFUSED = {
    "layerdrop": ({"decoder_layerdrop": 0.1}, "--decoder-layerdrop / --decoder-layers-to-keep: "),
    "layers to keep": ({"decoder_layers_to_keep": "0,2"}, "--decoder-layers-to-keep: dropped"),
    "adaptive": ({"adaptive_softmax_cutoff": "10,20"}, "--adaptive-softmax-cutoff: it has no log"),
    "own augmentation": ({"kd_own_augmentation": "yes"}, "--kd-own-augmentation: only images are"),
    "base layers": ({"base_layers": 1}, "--base-layers: they are inserted between the layers"),
    "sharded": ({"ddp_backend": "fully_sharded"}, "--ddp-backend fully_sharded: the head needs"),
    "branch": ({"decode_branch": 3}, r"decode_branch 3: tree '1.*' has leaves 0 to 2, and -1 is"),
    "below": ({"decode_branch": -3}, "decode_branch -3: tree"),
    "average": ({"decode_branch": -2}, "-2 is the averaged leader, but objective 'tsa' keeps no"),
    "depth": ({"decoder_layers": 4}, r"first\) path .* has 3 layers, but the network is 4 layers"),
    "notation": ({"tree": "1(1"}, "malformed tree: column 4: expected"),
    "preset": ({"tree": "tsaa"}, "unknown tree preset 'tsaa'"),
    "objective": ({"kd_objective": "tas"}, "unknown objective 'tas'"),
    "option": ({"kd_objective": "independent", "kd_weight": 0.5}, "'independent' has no option"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_tree_cannot_honour_is_refused_with_the_reason(tree, name):
    options, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        tree(**options)


def test_all_refusals_are_told_at_once(tree):
    message = "cannot be built with .*layerdrop.*; .*adaptive.*; .*base"
    with pytest.raises(ValueError, match=message):
        tree(decoder_layerdrop=0.1, adaptive_softmax_cutoff="10,20", base_layers=1)


def test_encoder_layerdrop_is_the_encoder_s_business(tree, sample):
    assert tree(encoder_layerdrop=0.5).eval()(**sample()["net_input"], branches=True).features


# --- configs ------------------------------------------------------------------------------------


def flat(config, prefix=""):
    """All values of a nested config by dotted name, but for the names of architectures."""
    values = {}
    for option in fields(config):
        value = getattr(config, option.name)
        if is_dataclass(value):
            values.update(flat(value, f"{prefix}{option.name}."))
        elif option.name != "_name":
            values[prefix + option.name] = value
    return values


def test_building_a_model_leaks_no_size_into_the_next_one(tree, variant):
    before = flat(TransformerConfig.from_namespace(copy.copy(tree().cfg)))
    tree(**variant)
    assert flat(TransformerConfig.from_namespace(copy.copy(tree().cfg))) == before


# --- whole networks as peers --------------------------------------------------------------------

PEERS = {"tree": "0(3,3,3)", "peer_encoders": True}


def test_peers_with_encoders_of_their_own_leave_the_leader_the_plain_model(tree, stock, sample):
    model, plain = tree(**PEERS, seed=5).eval(), stock(seed=5).eval()
    ours, theirs = leader_state(model), plain.state_dict()
    assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []
    batch = sample()["net_input"]
    assert torch.equal(model(**batch)[0], plain(**batch)[0])


def test_peers_start_from_weights_of_their_own(tree):
    model = tree(**PEERS, seed=5)
    drawn = [p for p in model.parameters() if p.dim() > 1]
    assert len({p.double().sum().item() for p in drawn}) == len(drawn)
    again = [p for p in tree(**PEERS, seed=5).parameters() if p.dim() > 1]
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    other = [p for p in tree(**PEERS, seed=6).parameters() if p.dim() > 1]
    assert not any(torch.equal(a, b) for a, b in zip(drawn, other, strict=True))
