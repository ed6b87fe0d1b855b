"""The tree decoder: every leaf is a plain decoder of its own, and every shared node runs once."""

import pytest
import torch
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.sequence_generator import SequenceGenerator

TREES = [
    "3",
    "1(2,2)",
    "0(3,3,3)",
    "1(1(1,1),1(1,1))",
    "1(1(1,2),1)",  # a longer and a shorter branch
    "2(1,1(1,0(1,1)),0)",  # an early exit, an only child's fork, a branching point
    "3(0,0)",  # leaves without layers of their own
]
VARIANTS = {
    "plain": {},
    "pre-norm": {"decoder_normalize_before": True, "encoder_normalize_before": True},
    "separate": {"branch_projection": "separate", "share_decoder_input_output_embed": True},
    "rich": {
        "decoder_normalize_before": True,
        "branch_projection": "separate",
        "layernorm_embedding": True,
        "decoder_output_dim": 8,
        "decoder_learned_pos": True,
    },
    "cross self attention": {"cross_self_attention": True},
    "no cross attention": {"no_cross_attention": True},
}


def leaves_of(notation):
    return notation.count(",") + 1


def with_branch(tree, model, branch, **options):
    """The same weights, decoding with another leaf."""
    other = tree(str(model.tree), decode_branch=branch, **options).eval()
    other.load_state_dict(model.state_dict(), strict=True)
    return other


def stir(model):
    """Moves norms away from their initial ones, so that using the wrong one shows."""
    generator = torch.Generator().manual_seed(9)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            for parameter in module.parameters():
                parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("notation", TREES)
def test_every_leaf_is_the_plain_decoder_of_its_path(tree, leaf_alone, sample, notation, variant):
    options = VARIANTS[variant]
    model, batch = stir(tree(notation, **options)), sample()["net_input"]
    features = model(**batch, branches=True).features
    probabilities = []
    for leaf in range(leaves_of(notation)):
        plain = {key: v for key, v in options.items() if key != "branch_projection"}
        if leaf and options.get("branch_projection") == "separate":
            plain["share_decoder_input_output_embed"] = False  # its projection is its own
        alone = leaf_alone(model, leaf, **plain)
        logits = alone(**batch)[0]
        assert torch.equal(features[leaf], alone(**batch, features_only=True)[0])
        decoding = with_branch(tree, model, leaf, **options)
        assert torch.equal(decoding(**batch)[0], logits)
        assert torch.equal(decoding(**batch, features_only=True)[0], features[leaf])
        probabilities.append(torch.softmax(logits, -1))
    ensemble = with_branch(tree, model, -1, **options)
    mean = torch.stack(probabilities).mean(0)
    torch.testing.assert_close(ensemble(**batch)[0], mean.log(), rtol=1e-5, atol=1e-5)
    normalised = ensemble.get_normalized_probs(ensemble(**batch), log_probs=True)
    torch.testing.assert_close(normalised, mean.log(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("notation", ["1(1(1,2),1)", "2(1,1(1,0(1,1)),0)"])
def test_decoding_word_by_word_gives_what_decoding_at_once_gives(tree, sample, notation, variant):
    options = VARIANTS[variant]
    model = stir(tree(notation, **options))
    batch = sample(target=(5, 5, 5))["net_input"]
    for branch in range(-1, leaves_of(notation)):
        decoding = with_branch(tree, model, branch, **options)
        encoded = decoding.encoder(batch["src_tokens"], src_lengths=batch["src_lengths"])
        tokens, state = batch["prev_output_tokens"], {}
        whole = decoding.decoder(tokens, encoder_out=encoded)[0]
        for length in range(1, tokens.shape[1] + 1):
            step = decoding.decoder(tokens[:, :length], encoded, incremental_state=state)[0]
            assert step.shape[1] == 1
            torch.testing.assert_close(step[:, 0], whole[:, length - 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("branch", [1, 2, -1])
def test_beam_search_over_a_branch_is_that_of_its_plain_model(
    tree, leaf_alone, sample, task, branch
):
    model = stir(tree())
    decoding = [with_branch(tree, model, branch)]
    plain = [leaf_alone(model, leaf) for leaf in (range(3) if branch < 0 else [branch])]
    found = []
    for models in (decoding, plain):
        generator = SequenceGenerator(models, task.target_dictionary, beam_size=4, max_len_b=10)
        hypotheses = generator.generate(models, sample(source=(5, 3, 4, 7, 2), target=(2,) * 5))
        found.append([[h["tokens"].tolist() for h in sentence] for sentence in hypotheses])
    assert found[0] == found[1]


# --- how often layers run -----------------------------------------------------------------------


class Counter:
    """Counts how often every decoder layer runs."""

    def __init__(self, model):
        decoder = model.decoder
        layers = {f"layers.{n}": layer for n, layer in enumerate(decoder.layers)}
        for node, own in decoder.branches.nodes.items():
            layers.update({f"{node}.{n}": layer for n, layer in enumerate(own)})
        self.counts = dict.fromkeys(layers, 0)
        for name, layer in layers.items():
            layer.register_forward_hook(self.hook(name))

    def hook(self, name):
        def count(*_):
            self.counts[name] += 1

        return count

    def ran(self):
        """The layers that ran, with their counts; starts again from zero."""
        found = {name: count for name, count in self.counts.items() if count}
        self.counts = dict.fromkeys(self.counts, 0)
        return found


LEADER = {"layers.0": 1, "layers.1": 1, "layers.2": 1}
# nodes of 1(1(1,2),1) in preorder: 0 root, 1 fork, 2 leaf 0, 3 leaf 1 (two layers), 4 leaf 2
OWN = {0: {}, 1: {"3.0": 1, "3.1": 1}, 2: {"4.0": 1}}
EVERY = {**LEADER, **OWN[1], **OWN[2]}


@pytest.mark.parametrize("training", [False, True])
def test_with_branches_every_layer_runs_exactly_once(tree, sample, training):
    model = tree().train(training)
    counter = Counter(model)
    model(**sample()["net_input"], branches=True)
    assert counter.ran() == EVERY


def test_by_default_no_peer_runs(tree, sample):
    model = tree()
    counter = Counter(model)
    model(**sample()["net_input"])
    assert counter.ran() == LEADER


@pytest.mark.parametrize("branch", [0, 1, 2, -1])
def test_one_step_of_decoding_runs_what_its_branch_needs_once(tree, sample, branch):
    model = tree(decode_branch=branch).eval()
    counter, batch, state = Counter(model), sample()["net_input"], {}
    encoded = model.encoder(batch["src_tokens"], src_lengths=batch["src_lengths"])
    for length in (1, 2):
        model.decoder(batch["prev_output_tokens"][:, :length], encoded, incremental_state=state)
        assert counter.ran() == (EVERY if branch < 0 else {**LEADER, **OWN[branch]})


def test_the_attention_of_the_last_layer_is_not_collected_for_training(tree, sample, monkeypatch):
    asked = []
    original = TransformerDecoderBase.extract_features_scriptable

    def watched(self, *args):
        features, extra = original(self, *args)
        asked.append(extra["attn"][0] is not None)
        return features, extra

    monkeypatch.setattr(TransformerDecoderBase, "extract_features_scriptable", watched)
    model = tree()
    model(**sample()["net_input"], branches=True)
    model(**sample()["net_input"])
    assert asked == [False, True]


# --- parts --------------------------------------------------------------------------------------


def test_every_leaf_has_its_own_final_norm_where_the_stock_decoder_has_one(tree):
    assert list(tree(decoder_normalize_before=True).decoder.branches.layer_norms) == ["1", "2"]
    assert not tree().decoder.branches.layer_norms
    without = tree(decoder_normalize_before=True, no_decoder_final_norm=True)
    assert not without.decoder.branches.layer_norms


def test_parameters_are_named_after_nodes_and_leaves(tree):
    options = {"decoder_normalize_before": True, "branch_projection": "separate"}
    names = {k.split(".branches.")[1] for k in tree(**options).state_dict() if ".branches." in k}
    heads = {".".join(name.split(".")[:3]) for name in names if name.startswith("nodes.")}
    assert heads == {"nodes.3.0", "nodes.3.1", "nodes.4.0"}
    assert {name for name in names if not name.startswith("nodes.")} == {
        *(f"layer_norms.{leaf}.{kind}" for leaf in (1, 2) for kind in ("weight", "bias")),
        *(f"output_projections.{leaf}.weight" for leaf in (1, 2)),
    }


def test_layers_of_different_branches_do_not_share_their_incremental_state(tree):
    keys = [m._incremental_state_id for m in tree().modules() if hasattr(m, "num_heads")]
    assert len(keys) == len(set(keys)) == 2 + 2 * 6


@pytest.mark.parametrize("offload", [False, True])
def test_checkpointed_activations_change_no_gradient(tree, sample, offload):
    gradients, saved = [], "offload_activations" if offload else "checkpoint_activations"
    for options in ({}, {saved: True}):
        model = tree(dropout=0.3, **options).train()
        torch.manual_seed(4)
        outputs = model(**sample()["net_input"], branches=True)
        sum(feature.square().sum() for feature in outputs.features).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    used = [name for name, gradient in gradients[0].items() if gradient is not None]
    assert len(used) >= len(gradients[0]) - 1  # the projection was not asked
    for name in used:
        torch.testing.assert_close(gradients[0][name], gradients[1][name], rtol=1e-5, atol=1e-6)


def test_padding_changes_nothing(tree, sample):
    model = stir(tree())
    batch = sample()["net_input"]
    padded = {
        "src_tokens": torch.nn.functional.pad(batch["src_tokens"], (2, 0), value=1),
        "src_lengths": batch["src_lengths"],
        "prev_output_tokens": torch.nn.functional.pad(batch["prev_output_tokens"], (0, 3), value=1),
    }
    length = batch["prev_output_tokens"].shape[1]
    real = batch["prev_output_tokens"].ne(1)
    for ours, same in zip(
        model(**batch, branches=True).features, model(**padded, branches=True).features, strict=True
    ):
        torch.testing.assert_close(ours[real], same[:, :length][real], rtol=1e-4, atol=1e-5)


def test_an_ensemble_has_no_features(tree, sample):
    model = tree(decode_branch=-1).eval()
    with pytest.raises(ValueError, match="features_only was asked of the ensemble"):
        model(**sample()["net_input"], features_only=True)
