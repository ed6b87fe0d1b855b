"""The averaged leader as a branch: decoded, exported, taught with; what PCL validates and ships."""

import pytest
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu, load_model_ensemble

from tsa_mt import pairing, teacher
from tsa_mt.cli import main
from tsa_mt.export.checkpoint import load_checkpoint
from tsa_mt.export.leader import plain_transformer
from tsa_mt.sources import AVERAGED
from tsa_mt.translate import load_translator

PREFIX = "decoder.branches.averaged."


@pytest.fixture(scope="module")
def saved(tiny_data, train, tmp_path_factory):
    """A checkpoint of PCL whose average differs from its weights."""
    folder = tmp_path_factory.mktemp("pcl")
    options = ("--kd-objective", "pcl", "--tree", "1(1,1)", "--decoder-layers", "2", "--lr", ".02")
    train(tiny_data, folder, *options, "--max-update", "4", "--share-all-embeddings")
    return folder / "checkpoint_last.pt"


def test_the_averaged_leader_is_taken_out_with_its_tied_embeddings(saved):
    checkpoint = load_checkpoint(saved)
    plain = plain_transformer(checkpoint, AVERAGED)
    assert plain.origin == "the averaged leader of tree 1(1,1)"
    for name, weight in plain.weights.items():
        average = checkpoint["model"].get(PREFIX + name)
        if average is not None:
            torch.testing.assert_close(weight, average)
    table = plain.weights["encoder.embed_tokens.weight"]
    for name in ("decoder.embed_tokens.weight", "decoder.output_projection.weight"):
        assert name not in plain.weights or torch.equal(plain.weights[name], table)
    raw = plain_transformer(checkpoint, 0).weights
    assert not torch.equal(raw["encoder.embed_tokens.weight"], table)


def test_pcl_ships_its_average_and_every_way_to_decode_it_agrees(
    saved, tiny_data, tmp_path, capsys
):
    for name, flags in {"default": (), "raw": ("--branch", "0")}.items():
        out = tmp_path / name
        command = ("export", saved, out, "--to", "fairseq", "--no-certificate", *flags)
        assert main([*map(str, command)]) == 0
        said = capsys.readouterr().out
        assert ("objective pcl ships its moving average" in said) == (name == "default")
    exported = torch.load(tmp_path / "default" / "model.pt", weights_only=False)["model"]
    average = load_checkpoint(saved)["model"][PREFIX + "encoder.layers.0.fc1.weight"]
    torch.testing.assert_close(exported["encoder.layers.0.fc1.weight"], average)
    texts = ["w1 w2 w3", "w9 w4"]
    found = load_translator(saved, branch=AVERAGED, data=tiny_data).translate(texts)
    assert found == load_translator(tmp_path / "default").translate(texts)
    raw = load_translator(tmp_path / "raw").translate(texts)
    assert raw == load_translator(saved, data=tiny_data).translate(texts) != found


def test_fairseq_decodes_it_under_its_number_and_its_name(saved):
    average = load_checkpoint(saved)["model"][PREFIX + "encoder.layers.0.fc1.weight"]
    for branch in (AVERAGED, "averaged"):
        (model,), _ = load_model_ensemble([str(saved)], arg_overrides={"decode_branch": branch})
        torch.testing.assert_close(model.encoder.layers[0].fc1.weight.detach(), average)
        assert model.decoder.decode_branch == 0


def test_the_averaged_leader_and_every_leaf_teach(saved):
    from fairseq import tasks

    task = tasks.setup_task(load_checkpoint_to_cpu(str(saved))["cfg"]["task"])
    task.load_dataset("valid")
    dataset = task.dataset("valid")
    batch = dataset.collater([dataset[number] for number in range(4)])["net_input"]
    like = torch.zeros(1)

    def log_probs(name):
        teacher._LOADED.clear()
        found = []
        for each in teacher.load_teachers(f"{saved}{name}", task):
            logits = each.run(batch, like).features @ each.projection.weight.T
            found.append(logits.log_softmax(-1))
        return found

    def decoded(branch):
        (model,), _ = load_model_ensemble([str(saved)], arg_overrides={"decode_branch": branch})
        with torch.no_grad():
            return model.eval()(**batch)[0].log_softmax(-1)

    for name, branch in (("", 0), (":1", 1), (":averaged", AVERAGED)):
        (taught,) = log_probs(name)
        torch.testing.assert_close(taught, decoded(branch))
    both = torch.stack(log_probs(":-1")).logsumexp(0) - torch.tensor(2.0).log()
    torch.testing.assert_close(both, decoded(-1))
    with pytest.raises(ValueError, match="has no branch 2 that could teach; its leaves are 0 to 1"):
        teacher.load_teachers(f"{saved}:2", task)
    with pytest.raises(ValueError, match="is 2 networks, where one is needed"):
        teacher.load_teacher(f"{saved}:-1", task)


def test_what_ships_is_what_validates(saved):
    (model,), _ = load_model_ensemble([str(saved)])
    raw = model.encoder.layers[0].fc1.weight.detach().clone()
    average = model.averaged.get_buffer("encoder.layers.0.fc1.weight")
    with pairing.shipping(model):
        torch.testing.assert_close(model.encoder.layers[0].fc1.weight.detach(), average)
    torch.testing.assert_close(model.encoder.layers[0].fc1.weight.detach(), raw)


def test_a_model_without_an_average_has_no_such_branch(tiny_data, train, tmp_path, capsys):
    train(tiny_data, tmp_path, "--kd-objective", "tsa", "--tree", "1(1,1)", "--max-update", "1",
          "--decoder-layers", "2")  # fmt: skip
    checkpoint = tmp_path / "checkpoint_last.pt"
    command = ("export", checkpoint, tmp_path / "out", "--to", "fairseq", "--branch", "averaged")
    assert main([*map(str, command)]) == 1
    assert "keeps no moving average, so it has no branch 'averaged'" in capsys.readouterr().err
