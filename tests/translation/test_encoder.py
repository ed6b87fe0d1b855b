"""Whole networks as peers: encoders of their own for the branches at the root."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator

PREPARATION = SimpleNamespace(
    generation=SimpleNamespace(no_beamable_mm=True, print_alignment=None, retain_dropout=False)
)
PEERS = "0(3,2,1(1,1))"  # leaves 2 and 3 share one of the three networks


@pytest.fixture
def peers(tree):
    def function(**options):
        return tree(PEERS, peer_encoders=True, **options).eval()

    return function


def inputs(sample):
    return sample()["net_input"]


def test_every_child_of_the_root_but_the_leader_has_an_encoder(peers):
    model = peers()
    assert list(model.encoder.branches) == ["2", "3"]
    own = {key.split(".")[2] for key in model.state_dict() if key.startswith("encoder.branches.")}
    assert own == {"2", "3"}
    first, second = (
        model.state_dict()[f"encoder.branches.{node}.layers.0.fc1.weight"] for node in "23"
    )
    assert not torch.equal(first, second)
    shared = model.encoder.embed_tokens.weight
    assert all(peer.embed_tokens.weight is shared for peer in model.encoder.branches.values())


def test_the_leader_is_the_stock_network(peers, leaf_alone, sample):
    model = peers()
    with torch.no_grad():
        ours, _ = model(**inputs(sample))
        theirs, _ = leaf_alone(model, 0)(**inputs(sample))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("leaf", "node"), [(1, "2"), (2, "3"), (3, "3")])
def test_a_peer_reads_its_own_encoder(leaf, node, peers, leaf_alone, sample):
    model = peers()
    alone = leaf_alone(model, leaf)
    alone.encoder.load_state_dict(model.encoder.branches[node].state_dict())
    with torch.no_grad():
        outputs = model(**inputs(sample), branches=True)
        theirs, _ = alone(**inputs(sample))
        ours = torch.nn.functional.linear(outputs.features[leaf], model.projections[leaf].weight)
    torch.testing.assert_close(ours, theirs)


def test_a_peer_s_loss_leaves_the_leader_s_encoder_alone(peers, sample):
    model = peers()
    features = model(**inputs(sample), branches=True).features
    features[1].sum().backward(retain_graph=True)
    layer = "layers.0.fc1.weight"
    assert model.encoder.get_parameter(layer).grad is None
    assert model.encoder.branches["2"].get_parameter(layer).grad.any()
    assert model.encoder.branches["3"].get_parameter(layer).grad is None


@pytest.mark.parametrize("branch", [1, 2, -1])
def test_a_peer_decodes_step_by_step_as_at_once(branch, peers, task, sample):
    model = peers(decode_branch=branch)
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


def test_decoding_the_leader_runs_and_keeps_no_other_encoder(peers, sample):
    model = peers()
    batch = inputs(sample)
    encoded = model.encoder(batch["src_tokens"], batch["src_lengths"])
    assert not any(":" in key for key in encoded)
    model.prepare_for_inference_(PREPARATION)
    assert not any(".branches." in key for key in model.state_dict())


def test_the_tree_is_a_set_of_peers_unless_one_is_given(tree):
    assert str(tree("", peer_encoders=True).tree) == "0(3,3,3,3)"


@pytest.mark.parametrize("notation", ["1(2,2)", "3"])
def test_a_tree_whose_branches_share_layers_is_refused(notation, tree):
    message = r"--peer-encoders: tree '.*' is no set of whole networks; its root must have no"
    with pytest.raises(ValueError, match=message):
        tree(notation, peer_encoders=True)


def test_copies_start_from_the_leader_s_encoder(peers, stock):
    model = peers(branch_init="copy")
    plain = stock(seed=9).state_dict()
    model.load_state_dict(plain, model_cfg=None)
    key = "layers.1.fc2.weight"
    for encoder in model.encoder.branches.values():
        assert torch.equal(encoder.get_parameter(key), plain[f"encoder.{key}"])
