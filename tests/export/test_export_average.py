"""Averaging checkpoints: values, sharing, choice by name, and refusals."""

import argparse

import pytest
import torch

from tsa_mt.cli import main as tsa_mt_cli
from tsa_mt.export.average import average, select
from tsa_mt.export.checkpoint import load_checkpoint


def checkpoint(path, value=1.0, dtype=torch.float32, **options):
    """A tiny checkpoint with tied tables, an integer buffer and a layer."""
    table = torch.full((50, 4), value, dtype=dtype)
    model = {
        "encoder.embed_tokens.weight": table,
        "decoder.embed_tokens.weight": table,
        "decoder.output_projection.weight": table,
        "encoder.layers.0.fc1.bias": torch.tensor([value, -value], dtype=dtype),
        "decoder.steps": torch.tensor([int(value)]),
    }
    maximize = options.pop("maximize", False)
    state = {
        "cfg": {
            "model": argparse.Namespace(encoder_attention_heads=2, **options),
            "checkpoint": {"maximize_best_checkpoint_metric": maximize},
        },
        "model": model,
        "extra_state": {"epoch": 7},
        "last_optimizer_state": {"moments": torch.zeros(10_000)},
    }
    torch.save(state, path)
    return path


def test_parameters_become_their_mean_and_integers_those_of_the_last(tmp_path):
    paths = [checkpoint(tmp_path / f"{v}.pt", float(v)) for v in (1, 2, 6)]
    state = average(paths)
    assert state["model"]["encoder.layers.0.fc1.bias"].tolist() == [3.0, -3.0]
    assert state["model"]["decoder.steps"].tolist() == [6]
    assert state["last_optimizer_state"] is None
    assert state["extra_state"] == {"epoch": 7, "averaged": ["1.pt", "2.pt", "6.pt"]}


def test_half_precision_is_summed_in_fp32_and_stored_as_it_was(tmp_path):
    """60000 + 60000 overflows fp16, and 2048 + 1 is lost in it."""
    paths = [checkpoint(tmp_path / f"{i}.pt", 60000.0, torch.float16) for i in range(2)]
    mean = average(paths)["model"]["encoder.layers.0.fc1.bias"]
    assert (mean.dtype, mean.tolist()) == (torch.float16, [60000.0, -60000.0])


def test_the_average_equals_the_plain_mean_of_a_real_run(tree_run, averaged):
    models = [load_checkpoint(tree_run / f"checkpoint{n}.pt")["model"] for n in (6, 7, 8)]
    mean = load_checkpoint(averaged)["model"]
    assert set(mean) == set(models[0])
    for name, value in mean.items():
        reference = torch.stack([model[name].double() for model in models]).mean(0)
        torch.testing.assert_close(value.double(), reference, atol=1e-6, rtol=1e-6)


def test_shared_tensors_stay_shared_and_the_file_is_no_larger(tree_run, averaged):
    weights = load_checkpoint(averaged)["model"]
    tables = ("encoder.embed_tokens", "decoder.embed_tokens", "decoder.output_projection")
    assert len({weights[f"{table}.weight"].data_ptr() for table in tables}) == 1
    assert averaged.stat().st_size <= (tree_run / "checkpoint8.pt").stat().st_size


def test_tables_that_a_gpu_run_saved_apart_are_one_again(tmp_path):
    state = torch.load(checkpoint(tmp_path / "a.pt"), weights_only=False)
    state["model"] = {name: tensor.clone() for name, tensor in state["model"].items()}
    torch.save(state, tmp_path / "b.pt")
    weights = average([tmp_path / "a.pt", tmp_path / "b.pt"])["model"]
    assert len({w.data_ptr() for name, w in weights.items() if name.endswith("weight")}) == 1


@pytest.fixture
def run(tmp_path):
    """A save directory with every kind of name that fairseq gives."""
    for epoch in (1, 2, 9, 10):
        checkpoint(tmp_path / f"checkpoint{epoch}.pt", epoch)
    for epoch, update in ((1, 900), (1, 1000), (2, 1100)):
        checkpoint(tmp_path / f"checkpoint_{epoch}_{update}.pt", update)
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        checkpoint(tmp_path / name, 77)
    return tmp_path


def test_the_last_epochs_are_counted_as_numbers(run):
    names = [path.name for path in select(run, 3, None, False)]
    assert names == ["checkpoint2.pt", "checkpoint9.pt", "checkpoint10.pt"]


def test_the_last_updates_are_chosen_by_update(run):
    names = [path.name for path in select(run, 2, None, True)]
    assert names == ["checkpoint_1_1000.pt", "checkpoint_2_1100.pt"]


@pytest.mark.parametrize(
    ("maximize", "chosen"), [(False, ["3.9992", "3.5001"]), (True, ["3.9992", "12.2500"])]
)
def test_the_best_are_chosen_in_the_run_s_own_direction(tmp_path, maximize, chosen):
    """The digit behind the three decimals is random: 3.9992 and 3.9990 are equally good."""
    for value in ("3.9992", "12.2500", "3.5001"):
        checkpoint(tmp_path / f"checkpoint.best_loss_{value}.pt", 1, maximize=maximize)
    names = [path.name for path in select(tmp_path, None, 2, False)]
    assert names == [f"checkpoint.best_loss_{value}.pt" for value in chosen]


def test_best_checkpoints_of_two_metrics_are_refused(tmp_path):
    for name in ("loss_3.9992", "bleu_30.1000"):
        checkpoint(tmp_path / f"checkpoint.best_{name}.pt")
    with pytest.raises(ValueError, match=r"several metrics \(bleu, loss\)"):
        select(tmp_path, None, 1, False)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ((None, None, False), "say which checkpoints with --last N or --best N"),
        ((5, None, False), r"holds 4 epoch checkpoints \(checkpoint1.pt, .*\), not 5"),
        ((5, None, True), "holds 3 update checkpoints"),
        ((None, 1, False), r"holds 0 best checkpoints \(none\), not 1"),
        ((0, None, False), "cannot average 0 checkpoints"),
        ((None, 2, True), "--update-based goes with --last"),
    ],
)
def test_a_choice_that_cannot_be_made_says_why(run, choice, message):
    with pytest.raises(ValueError, match=message):
        select(run, *choice)


def test_models_with_other_entries_or_shapes_are_not_mixed(tmp_path):
    one = checkpoint(tmp_path / "one.pt")
    state = torch.load(one, weights_only=False)
    state["model"]["decoder.branches.nodes.2.0.fc1.bias"] = torch.zeros(2)
    state["model"]["encoder.layers.0.fc1.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="are different models: ") as error:
        average([one, tmp_path / "other.pt"])
    assert "only other.pt has 'decoder.branches.nodes.2.0.fc1.bias'" in str(error.value)
    assert "'encoder.layers.0.fc1.bias' is (2,) in one and (3,) in the other" in str(error.value)


def test_models_that_differ_in_what_shapes_do_not_show_are_not_mixed(tmp_path):
    one = checkpoint(tmp_path / "one.pt", tree="2(1,1)")
    other = checkpoint(tmp_path / "other.pt", tree="2(1(0,0))")
    with pytest.raises(ValueError, match=r"tree is '2\(1,1\)' in one and '2\(1\(0,0\)\)' in the"):
        average([one, other])


def test_a_file_listed_twice_is_refused(tmp_path):
    path = checkpoint(tmp_path / "one.pt")
    with pytest.raises(ValueError, match=r"one\.pt is listed twice"):
        average([path, tmp_path / ".." / tmp_path.name / "one.pt"])


def test_a_checkpoint_with_a_value_that_is_not_finite_is_refused(tmp_path):
    path = checkpoint(tmp_path / "1.pt")
    state = torch.load(path, weights_only=False)
    state["model"]["encoder.layers.0.fc1.bias"][0] = float("nan")
    torch.save(state, tmp_path / "2.pt")
    with pytest.raises(ValueError, match=r"'encoder.layers.0.fc1.bias' is not finite"):
        average([path, tmp_path / "2.pt"])


def test_the_command_does_not_overwrite_without_force(run, capsys):
    out = run / "mean.pt"
    arguments = ["average", str(run), "--out", str(out), "--last", "2"]
    assert tsa_mt_cli(arguments) == 0
    assert "the mean of 2 checkpoints" in capsys.readouterr().out
    assert tsa_mt_cli(arguments) == 1
    assert "mean.pt exists; pass --force to replace it" in capsys.readouterr().err
    assert tsa_mt_cli([*arguments, "--force"]) == 0


@pytest.mark.parametrize(
    ("inputs", "flags", "message"),
    [
        (["checkpoint1.pt", "."], [], "one folder or several files"),
        (["checkpoint1.pt"], ["--last", "1"], "choose from a folder; files are listed"),
        (["nowhere.pt"], [], "checkpoint nowhere.pt does not exist; . holds checkpoint1.pt,"),
    ],
)
def test_inputs_that_make_no_sense_are_explained(run, monkeypatch, capsys, inputs, flags, message):
    monkeypatch.chdir(run)
    assert tsa_mt_cli(["average", *inputs, "--out", "mean.pt", *flags]) == 1
    assert message in capsys.readouterr().err
    assert not (run / "mean.pt").exists()
