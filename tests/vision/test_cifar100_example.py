"""examples/cifar100: what its scripts refuse, and one row from data to results file."""

import csv
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "cifar100"
ROWS = ["plain", "tsa", "okddip", "ahbf", "one", "dml", "sokd"]


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """Runs a script of the example with this Python's fairseq-train."""
    commands = tmp_path_factory.mktemp("bin")
    shim = commands / "fairseq-train"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fairseq_cli.train "$@"\n')
    shim.chmod(0o755)

    def run(*command, **variables):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        environment["PATH"] = f"{commands}{os.pathsep}{environment['PATH']}"
        settings = {"env": environment, "capture_output": True, "text": True, "timeout": 300}
        return subprocess.run([str(part) for part in command], **settings)

    return run


@pytest.mark.parametrize(
    ("command", "variables", "message"),
    [
        (["prepare.sh"], {}, "prepare.sh: error: expected ARCHIVE OUT, got 0 arguments"),
        (["prepare.sh", "no.tar", "out"], {}, "ARCHIVE 'no.tar' does not exist"),
        (["tsa.sh", "data"], {}, "tsa.sh: error: expected DATA SAVE_DIR, got 1 arguments"),
        (["one.sh", "nowhere", "save"], {}, "DATA 'nowhere' is not a folder; run prepare.sh"),
        (["ahbf.sh", ROOT, "save"], {"EPOCHS": "two"}, "EPOCHS is 'two'; it must be a number"),
    ],
)
def test_a_script_says_what_is_wrong_in_one_sentence(command, variables, message, call):
    done = call(EXAMPLE / command[0], *command[1:], **variables)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_script_that_names_its_objective(row):
    text = (EXAMPLE / f"{row}.sh").read_text()
    assert os.access(EXAMPLE / f"{row}.sh", os.X_OK)
    assert f"--kd-objective {'independent' if row == 'plain' else row}" in text


@pytest.fixture
def evaluate(call, cifar, tmp_path):
    """Evaluates a training; its rows as `evaluate.py` wrote them to ``results.csv``."""

    def run(save):
        results = tmp_path / "results.csv"
        command = [sys.executable, EXAMPLE / "evaluate.py", cifar.folder, save]
        done = call(*command, "--hardware", "a test", "--csv", results, "--accept-any-md5")
        assert done.returncode == 0, done.stderr
        with open(results, newline="") as file:
            return list(csv.DictReader(file))

    return run


def test_an_archive_is_unpacked_once_and_whole(call, cifar, tmp_path):
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar.folder / "cifar-10-batches-py", "cifar-10-batches-py")
    first = call(EXAMPLE / "prepare.sh", archive, tmp_path / "out")
    assert first.returncode == 0, first.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cifar-10-batches-py"]
    assert "nothing to do" in call(EXAMPLE / "prepare.sh", archive, tmp_path / "out").stdout
    archive.write_bytes(archive.read_bytes()[:-1000])
    broken = call(EXAMPLE / "prepare.sh", archive, tmp_path / "other")
    assert "is damaged; fetch it again" in broken.stderr
    assert list((tmp_path / "other").iterdir()) == []


def test_the_control_of_a_row_is_its_tree_with_the_task_loss_alone(call, cifar, tmp_path):
    flags = ("--accept-any-md5", "--max-update", 1, "--cpu", "--disable-validation")
    small = {"EPOCHS": "4", "VALID_SPLIT": "20", "ARCH": "tree_resnet20", "CONTROL": "1"}
    done = call(EXAMPLE / "tsa.sh", cifar.folder, tmp_path, *flags, **small)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    method = json.loads((tmp_path / "run.json").read_text())["method"]
    assert (method["objective"], method["tree"]) == ("independent", "3(3(3,3),3(3,3))")


def test_a_row_goes_from_the_data_to_the_results_file(call, evaluate, cifar, tmp_path):
    flags = ("--accept-any-md5", "--max-update", 2, "--cpu", "--bf16-autocast")
    small = {"EPOCHS": "4", "VALID_SPLIT": "20", "ARCH": "tree_resnet20"}
    done = call(EXAMPLE / "okddip.sh", cifar.folder, tmp_path / "okddip", *flags, **small)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = evaluate(tmp_path / "okddip")
    assert [row["checkpoint"] for row in rows] == ["best", "last"]
    assert {row["tree"] for row in rows} == {"6(3,3,3,3)"}
    assert {row["precision"] for row in rows} == {"bf16 autocast"}
    assert rows[1]["epochs"] == "2 of 4"  # 80 images are one batch
    assert {row["held_out"] for row in rows} == {"20"}
    assert all(len(row["accuracy_leaves"].split()) == 4 for row in rows)
    header = (ROOT / "docs" / "results" / "cifar100.csv").read_text().split("\n")[0]
    assert (tmp_path / "results.csv").read_text().split("\n")[0] == header


def test_sokd_s_teacher_has_no_nesterov_momentum_and_its_student_no_claim_about_cost(
    call, evaluate, cifar, tmp_path
):
    flags = ("--accept-any-md5", "--max-update", 1, "--cpu", "--disable-validation")
    small = {"EPOCHS": "4", "VALID_SPLIT": "20", "ARCH": "tree_resnet20"}
    small["TEACHER_ARCH"] = "tree_resnet20"
    done = call(EXAMPLE / "sokd.sh", cifar.folder, tmp_path / "sokd", *flags, **small)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    teacher = json.loads((tmp_path / "sokd" / "teacher" / "run.json").read_text())
    assert teacher["options"]["optimizer.nesterov"] is False
    (row,) = evaluate(tmp_path / "sokd")
    assert (row["objective"], row["checkpoint"]) == ("sokd", "last")
    assert (row["parameters_ratio"], row["macs_ratio"]) == ("", "")
    assert 0 <= float(row["accuracy"]) <= 100
