"""The bridge, exported together with its teacher's lower layers."""

import shutil

import pytest
import torch

from tsa_mt.cli import main
from tsa_mt.export.checkpoint import load_checkpoint
from tsa_mt.teacher import load_teacher

SOKD = [
    *("--arch", "tree_transformer_tiny", "--criterion", "online_kd", "--kd-objective", "sokd"),
    *("--kd-bridge-init", "random"),
]


@pytest.fixture(scope="module")
def student_file(toy, teacher_file, tmp_path_factory):
    return toy.train(tmp_path_factory.mktemp("bridged"), *SOKD, "--kd-teacher", teacher_file)


def export(source, out, *flags):
    return main(["export", str(source), str(out), "--to", "fairseq", *map(str, flags)])


def test_the_exported_bridge_says_what_the_bridge_said(toy, student_file, teacher_file, tmp_path):
    assert export(student_file, tmp_path / "out", "--branch", "bridge") == 0
    task = toy.task()
    batch = toy.batch(task)
    like = torch.zeros(1)
    from fairseq.checkpoint_utils import load_model_ensemble

    (student,), _ = load_model_ensemble([str(student_file)], task=toy.task())
    student.eval()
    said = load_teacher(str(teacher_file), task).run(batch["net_input"], like)
    _, bridge = student(**batch["net_input"], branches=True, teacher=said).features
    improved = load_teacher(str(tmp_path / "out" / "model.pt"), task)
    assert (improved.run(batch["net_input"], like).features - said.features).abs().max() > 0.1
    torch.testing.assert_close(improved.run(batch["net_input"], like).features, bridge)


def test_the_improved_teacher_decodes_as_a_stock_transformer(toy, student_file, tmp_path):
    assert export(student_file, tmp_path / "out", "--branch", "bridge") == 0
    state = load_checkpoint(tmp_path / "out" / "model.pt")
    assert state["cfg"]["model"]["_name"] == "transformer"
    assert not [name for name in state["model"] if ".branches." in name]
    assert len(toy.generate(tmp_path / "out" / "model.pt", tmp_path / "said")) == 11


def test_a_teacher_that_moved_is_asked_for(student_file, tmp_path, teacher_file, capsys):
    lost = shutil.copy(student_file, tmp_path / "lost.pt")
    state = torch.load(lost, weights_only=False)
    state["cfg"]["model"]["kd_teacher"] = "moved.pt"
    torch.save(state, lost)
    assert export(lost, tmp_path / "out", "--branch", "bridge") == 1
    assert "(moved.pt) is not there; name its checkpoint with --teacher" in capsys.readouterr().err
    assert export(lost, tmp_path / "out", "--branch", "bridge", "--teacher", teacher_file) == 0


def test_a_checkpoint_without_a_bridge_is_refused(teacher_file, tmp_path, capsys):
    flags = ["--branch", "bridge", "--teacher", teacher_file]
    assert export(teacher_file, tmp_path / "out", *flags) == 1
    assert "holds no bridge; only --kd-objective sokd trains one" in capsys.readouterr().err


def test_another_teacher_is_refused(toy, student_file, tmp_path, capsys):
    other = toy.train(tmp_path / "other", "--arch", "transformer_tiny", updates=1)
    assert export(student_file, tmp_path / "out", "--branch", "bridge", "--teacher", other) == 1
    error = capsys.readouterr().err
    assert "the bridge did not grow out of checkpoint_last.pt: its 'decoder.layers.0" in error


def test_a_teacher_for_a_leaf_is_refused(student_file, tmp_path, teacher_file, capsys):
    assert export(student_file, tmp_path / "out", "--teacher", teacher_file) == 1
    assert "goes with --branch bridge only" in capsys.readouterr().err
