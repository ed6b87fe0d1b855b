"""Choosing the leaf that did best on the validation set, from what lies beside a checkpoint."""

import argparse

import pytest

from tsa_mt.cli import main as tsa_mt_cli
from tsa_mt.export.best_branch import best_branch
from tsa_mt.export.checkpoint import load_checkpoint

CHECKPOINT = {
    "cfg": {"dataset": {"valid_subset": "valid,other"}, "common": {}},
    "optimizer_history": [{"num_updates": 200}],
}
CURVES = """update,epoch,split,metric,value
100,1,valid,nll_b0,5.0
100,1,valid,nll_b1,4.0
200,2,train,nll_b0,9.0
200,2,valid,nll_loss,4.5
200,2,valid,nll_b0,4.5
200,2,valid,nll_b1,4.6
200,2,valid,nll_b2,nan
200,2,other,nll_b2,0.1
300,3,valid,nll_b1,1.0
"""
SIMPLE = (
    "2026-01-01 00:00:00 | INFO | valid | epoch 002 | valid on 'valid' subset | loss 5.1 "
    "| nll_b0 4.5 | nll_b1 4.25 | wps 7 | num_updates 200 | best_loss 5.1\n"
    "2026-01-01 00:00:01 | INFO | valid | epoch 002 | valid on 'other' subset | nll_b0 0.5 "
    "| num_updates 200\n"
)
JSON = (
    '2026-01-01 00:00:00 | INFO | valid | {"epoch": 2, "valid_loss": "5.1", "valid_nll_b0": "4.5", '
    '"valid_nll_b1": "4.25", "valid_num_updates": "200"}\n'
)


def test_the_curves_tell_the_leaf_with_the_lowest_nll_at_the_checkpoint(tmp_path):
    (tmp_path / "curves.csv").write_text(CURVES)
    choice = best_branch(CHECKPOINT, tmp_path / "checkpoint_best.pt")
    assert (choice.branch, choice.nll, choice.update) == (0, {0: 4.5, 1: 4.6}, 200)
    assert choice.source == tmp_path / "curves.csv"
    assert "leaf 0 has the lowest validation nll at update 200 (leaf 0 4.500, leaf" in str(choice)


def test_a_checkpoint_between_validations_takes_the_last_one_before(tmp_path):
    (tmp_path / "curves.csv").write_text(CURVES)
    early = {**CHECKPOINT, "optimizer_history": [{"num_updates": 199}]}
    choice = best_branch(early, tmp_path / "checkpoint_1_199.pt")
    assert (choice.branch, choice.update) == (1, 100)


@pytest.mark.parametrize("log", [SIMPLE, JSON], ids=["simple", "json"])
def test_without_curves_the_log_tells(log, tmp_path):
    (tmp_path / "train.log").write_text("not a figure\n" + log)
    choice = best_branch(CHECKPOINT, tmp_path / "checkpoint_best.pt")
    assert (choice.branch, choice.nll) == (1, {0: 4.5, 1: 4.25})
    assert choice.source == tmp_path / "train.log"


def test_the_log_that_the_training_was_told_to_write_is_asked_first(tmp_path):
    (tmp_path / "train.log").write_text(SIMPLE.replace("4.25", "9"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "own.txt").write_text(JSON)
    common = {"log_file": str(tmp_path / "elsewhere" / "own.txt")}
    checkpoint = {**CHECKPOINT, "cfg": {**CHECKPOINT["cfg"], "common": common}}
    assert best_branch(checkpoint, tmp_path / "checkpoint_best.pt").branch == 1


def test_leaves_that_are_equal_give_the_lower_number(tmp_path):
    (tmp_path / "train.log").write_text(SIMPLE.replace("4.25", "4.5"))
    assert best_branch(CHECKPOINT, tmp_path / "checkpoint_best.pt").branch == 0


def test_a_checkpoint_of_old_with_args_is_read_too(tmp_path):
    (tmp_path / "train.log").write_text(SIMPLE)
    arguments = argparse.Namespace(valid_subset="valid", arch="transformer")
    checkpoint = {"args": arguments, "optimizer_history": CHECKPOINT["optimizer_history"]}
    assert best_branch(checkpoint, tmp_path / "checkpoint_best.pt").branch == 1


def test_nowhere_to_read_it_from_is_told_with_where_was_looked(tmp_path):
    (tmp_path / "notes.log").write_text("nothing here\n")
    with pytest.raises(ValueError, match=r"looked for nll_b0, .* in curves.csv, notes.log\); keep"):
        best_branch(CHECKPOINT, tmp_path / "checkpoint_best.pt")


def test_the_command_exports_the_best_leaf_and_says_why(tree_run, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoint_best.pt").symlink_to(tree_run / "checkpoint_last.pt")
    (run / "curves.csv").write_text(
        "update,epoch,split,metric,value\n"
        "200,8,valid,nll_b0,2.5\n200,8,valid,nll_b1,2.0\n200,8,valid,nll_b2,2.25\n"
    )
    data = tree_run.parent / "data-bin"
    arguments = ["export", run / "checkpoint_best.pt", tmp_path / "out", "--to", "fairseq"]
    arguments += ["--branch", "best", "--no-certificate", "--data", data]
    assert tsa_mt_cli([str(part) for part in arguments]) == 0
    printed = capsys.readouterr().out
    assert "leaf 1 has the lowest validation nll at update 200 (leaf 0 2.500, leaf 1" in printed
    assert "leaf 1 of tree 1(1(1,2),1)" in printed
    options = load_checkpoint(tmp_path / "out" / "model.pt")["cfg"]["model"]
    assert options["decoder_layers"] == 4


def test_the_best_of_an_export_is_refused(tmp_path, capsys):
    (tmp_path / "export").mkdir()
    arguments = ["export", str(tmp_path / "export"), str(tmp_path / "out"), "--to", "fairseq"]
    assert tsa_mt_cli([*arguments, "--branch", "best"]) == 1
    assert "is an export, of a single branch" in capsys.readouterr().err
