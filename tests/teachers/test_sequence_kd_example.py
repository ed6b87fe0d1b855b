"""The example for sequence-level distillation runs as its README says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def run(root, tmp_path):
    """Runs the script; ``tsa-mt`` is this checkout's."""
    command = tmp_path / "bin" / "tsa-mt"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m tsa_mt.cli "$@"\n')
    command.chmod(0o755)

    def start(*arguments, **variables):
        folders = [str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
        places = {"PYTHONPATH": str(root), "PATH": ":".join(folders)}
        script = root / "examples" / "sequence-kd" / "run.sh"
        line = [str(script), *map(str, arguments)]
        environment = {**os.environ, **places, **variables}
        return subprocess.run(line, env=environment, capture_output=True, text=True)

    return start


def test_the_script_translates_and_trains_a_student(toy, teacher_file, run, tmp_path):
    flags = ["--cpu", "--max-update", 2, "--max-tokens", 200, "--num-workers", 0]
    own = ["--arch", "tree_transformer_tiny", "--decoder-layers", 1, "--seed", 2]
    kd = ["--kd-objective", "kd", "--kd-teacher", teacher_file]
    places = (toy.data, teacher_file, tmp_path / "out")
    done = run(*places, *flags, *own, *kd, FORWARD="--cpu --beam 2 --generate=--lenpen=0.6")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "48 sentences, 0 of them with their reference" in done.stdout
    assert (tmp_path / "out" / "student" / "checkpoint_best.pt").is_file()


def test_the_script_says_what_it_expects(run):
    done = run("data-bin")
    assert done.returncode == 1
    assert "run.sh: error: expected DATA_BIN TEACHER OUT, got 1 arguments" in done.stderr
