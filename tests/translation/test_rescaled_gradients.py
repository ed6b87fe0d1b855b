"""CL-ILR: what branches share gets the mean of their gradients, at every fork and in the output."""

import pytest
import torch


def gradients_of(model, tensors):
    """Gradients of the sum of these tensors' squares, by parameter."""
    model.zero_grad()
    sum((tensor**2).sum() for tensor in tensors).backward()
    return {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}


def gradients(model, sample, leaves):
    """Gradients of the sum of some leaves' features."""
    outputs = model.eval()(**sample()["net_input"], branches=True)
    return gradients_of(model, [outputs.features[leaf] for leaf in leaves])


@pytest.fixture
def models(tree):
    """The same tree without and with the hook."""

    def function(notation):
        plain, scaled = (tree(notation, kd_objective=name) for name in ("tsa", "cl_ilr"))
        scaled.load_state_dict(plain.state_dict(), model_cfg=None)
        return plain, scaled

    return function


def test_in_a_flat_fork_what_is_shared_gets_the_mean_over_branches(models, sample):
    plain, scaled = models("1(2,2,2)")
    ours = gradients(scaled, sample, range(3))
    theirs = gradients(plain, sample, range(3))
    for key, grad in theirs.items():
        shared = key.startswith(("encoder.", "decoder.layers.0.", "decoder.embed_tokens."))
        expected = grad / 3 if shared else grad
        torch.testing.assert_close(ours[key], expected, rtol=1e-4, atol=1e-6, msg=key)


def test_in_a_deeper_tree_every_fork_divides_again(models, sample):
    plain, scaled = models("1(1(1,1),2,2)")
    for leaf, factor in ((0, 1 / 6), (1, 1 / 6), (2, 1 / 3)):
        ours = gradients(scaled, sample, [leaf])
        theirs = gradients(plain, sample, [leaf])
        for key, grad in theirs.items():
            if key.startswith(("encoder.", "decoder.layers.0.")):
                torch.testing.assert_close(ours[key], grad * factor, rtol=1e-4, atol=1e-6, msg=key)
            elif key.startswith("decoder.layers.1.") and leaf < 2:
                torch.testing.assert_close(ours[key], grad / 2, rtol=1e-4, atol=1e-6, msg=key)
            elif not key.startswith("decoder.embed"):
                torch.testing.assert_close(ours[key], grad, rtol=1e-4, atol=1e-6, msg=key)


def test_the_features_are_the_same_with_and_without_it(models, sample):
    plain, scaled = (model.eval() for model in models("0(1(2,2),3)"))
    batch = sample()["net_input"]
    with torch.no_grad():
        pairs = zip(
            plain(**batch, branches=True).features,
            scaled(**batch, branches=True).features,
            strict=True,
        )
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def projected(model, sample):
    """Gradients of the output projections, the features held fixed."""
    outputs = model.eval()(**sample()["net_input"], branches=True)
    logits = [
        feature.detach() @ projection.weight.t()
        for feature, projection in zip(outputs.features, model.projections, strict=True)
    ]
    return gradients_of(model, logits)


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({}, 3),
        ({"share_decoder_input_output_embed": True}, 3),
        ({"branch_projection": "separate"}, 1),
    ],
    ids=["own weights", "tied to the embedding", "one a leaf"],
)
def test_an_output_projection_gets_the_mean_over_the_leaves_that_share_it(
    options, share, tree, sample
):
    plain, scaled = (tree("1(2,2,2)", kd_objective=n, **options) for n in ("tsa", "cl_ilr"))
    scaled.load_state_dict(plain.state_dict(), model_cfg=None)
    ours, theirs = projected(scaled, sample), projected(plain, sample)
    assert theirs and ours.keys() == theirs.keys()
    for key, grad in theirs.items():
        torch.testing.assert_close(ours[key], grad / share, rtol=1e-4, atol=1e-6, msg=key)


def test_encoders_of_one_s_own_are_not_shared_and_keep_their_gradient(tree, sample):
    plain, scaled = (
        tree("0(3,3)", kd_objective=name, peer_encoders=True) for name in ("tsa", "cl_ilr")
    )
    scaled.load_state_dict(plain.state_dict(), model_cfg=None)
    ours, theirs = (gradients(model, sample, [0, 1]) for model in (scaled, plain))
    for key, grad in theirs.items():
        if key.startswith(("encoder.layers.", "encoder.branches.1.layers.")):
            torch.testing.assert_close(ours[key], grad, rtol=1e-4, atol=1e-6, msg=key)
