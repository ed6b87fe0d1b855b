"""A plain Transformer's checkpoint becomes a tree; a tree's own checkpoint stays what it is."""

import pytest
import torch

PRE_NORM = {"decoder_normalize_before": True}


def loaded(model, state):
    """The model after fairseq's strict load."""
    model.load_state_dict(dict(state), strict=True)
    return model


@pytest.mark.parametrize("options", [{}, PRE_NORM, {"share_all_embeddings": True}])
@pytest.mark.parametrize("init", ["fresh", "copy"])
def test_the_leader_becomes_the_plain_model(tree, stock, sample, options, init):
    plain = stock(seed=3, **options).eval()
    model = loaded(tree(branch_init=init, **options), plain.state_dict()).eval()
    batch = sample()["net_input"]
    assert torch.equal(model(**batch)[0], plain(**batch)[0])


def test_fresh_branches_are_left_as_they_were_drawn(tree, stock):
    model = tree(branch_projection="separate")
    drawn = {k: v.clone() for k, v in model.state_dict().items() if ".branches." in k}
    loaded(model, stock(seed=3).state_dict())
    assert drawn
    assert all(torch.equal(model.state_dict()[key], value) for key, value in drawn.items())


@pytest.mark.parametrize("options", [{}, PRE_NORM])
def test_copied_branches_compute_what_the_leader_computes(tree, stock, sample, options):
    plain = stock(seed=3, **options)
    torch.nn.init.normal_(plain.decoder.layers[2].final_layer_norm.weight)
    model = tree("1(2,2,1(1,1))", branch_init="copy", branch_projection="separate", **options)
    loaded(model, plain.state_dict()).eval()
    features = model(**sample()["net_input"], branches=True).features
    assert all(torch.equal(feature, features[0]) for feature in features)
    weights = [projection.weight for projection in model.projections]
    assert all(torch.equal(weight, weights[0]) for weight in weights)
    assert len({weight.data_ptr() for weight in weights}) == len(weights)


def test_copied_branches_are_copies_and_not_the_leader_s_own_tensors(tree, stock):
    model = loaded(tree(branch_init="copy"), stock(seed=3).state_dict())
    pointers = [parameter.data_ptr() for parameter in model.parameters()]
    assert len(set(pointers)) == len(pointers)


def test_layers_beyond_the_leader_s_depth_repeat_its_last_layer(tree, stock):
    model = loaded(tree("1(1(1,2),1)", branch_init="copy"), stock(seed=3).state_dict())
    own = model.decoder.branches.nodes["3"]  # depths 2 and 3 of a leader of three layers
    for layer in own:
        for key, value in model.decoder.layers[2].state_dict().items():
            assert torch.equal(layer.state_dict()[key], value)


@pytest.mark.parametrize("init", ["fresh", "copy"])
def test_a_tree_s_own_checkpoint_is_loaded_as_it_is(tree, init):
    options = {"branch_projection": "separate", **PRE_NORM}
    trained = tree(seed=3, **options)
    model = loaded(tree(seed=4, branch_init=init, **options), trained.state_dict())
    assert all(torch.equal(v, trained.state_dict()[k]) for k, v in model.state_dict().items())


def test_copies_that_fairseq_0_12_2_saves_of_encoder_parameters_are_dropped(tree, stock):
    state = dict(stock(seed=3).state_dict())
    for layer in range(2):
        for part in ("in_proj", "out_proj", "fc1", "fc2"):
            for kind in ("weight", "bias"):
                state[f"encoder.layers.{layer}.{part}_{kind}"] = torch.zeros(2)
    loaded(tree(), state)
    loaded(tree(), {**tree().state_dict(), "encoder.layers.0.fc1_bias": torch.zeros(2)})


def test_a_checkpoint_without_version_has_no_final_norm_as_in_fairseq(tree, stock, sample):
    plain = stock(seed=3)
    state = {k: v for k, v in plain.state_dict().items() if not k.endswith("version")}
    model = loaded(tree(), state).eval()
    batch = sample()["net_input"]
    assert torch.equal(model(**batch)[0], plain.eval()(**batch)[0])
    assert len(model(**batch, branches=True).features) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tree": "1(2,2)"}, "of tree '1.2,2.' with objective 'tsa': it has no decoder.branches"),
        ({"branch_projection": "separate"}, "has no decoder.branches.output_projections.1.weight"),
        ({"kd_objective": "okddip"}, "objective 'okddip': it has no decoder.branches.objective"),
        (PRE_NORM, "it has no decoder.branches.layer_norms.1.bias"),
    ],
)
def test_a_checkpoint_of_another_tree_or_objective_is_explained(tree, options, message):
    state = tree().state_dict()
    with pytest.raises(ValueError, match=message) as caught:
        loaded(tree(**options), state)
    assert "the checkpoint's branches are not those of tree" in str(caught.value)
    assert "--finetune-from-model" in str(caught.value)


def test_a_plain_checkpoint_of_another_size_is_still_refused_by_fairseq(tree, stock):
    with pytest.raises(RuntimeError, match="size mismatch for encoder"):
        loaded(tree(), stock(encoder_embed_dim=8, decoder_embed_dim=8).state_dict())
