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
        line = [str(root / "examples" / "sequence-kd" / "run.sh"), *map(str, arguments)]
        environment = {**os.environ, **places, **variables}
        return subprocess.run(line, env=environment, capture_output=True, text=True)

    return start


def test_the_script_translates_and_trains_a_student(toy, teacher_file, run, tmp_path):
    flags = ["--cpu", "--max-update", 2, "--max-tokens", 200, "--num-workers", 0]
    own = ["--arch", "tree_transformer_tiny", "--encoder-layers", 1, "--seed", 2]
    kd = ["--kd-objective", "kd", "--kd-teacher", teacher_file]
    places = (toy.data, teacher_file, tmp_path / "out")
    forward = "--cpu --beam 2 --nbest 2 --select mbr --generate=--lenpen=0.6"
    done = run(*places, *flags, *own, *kd, FORWARD=forward, DECODE="--cpu --beam 2", CONTROL="0")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "48 sentences, 0 of them with their reference" in done.stdout
    assert (tmp_path / "out" / "student" / "checkpoint_best.pt").is_file()
    assert "student: Generate test with beam=2: BLEU4" in done.stdout


def test_the_script_says_what_it_expects(run):
    done = run("data-bin")
    assert done.returncode == 1
    assert "run.sh: error: expected DATA_BIN TEACHER OUT, got 1 arguments" in done.stderr


def test_the_script_diversifies_the_data_with_a_model_of_each_direction(root, tmp_path):
    """The commands alone: their parts are tested in test_selection.py."""
    (tmp_path / "bin").mkdir()
    for name in ("fairseq-train", "tsa-mt"):
        shim = tmp_path / "bin" / name
        shim.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        shim.chmod(0o755)
    for language in ("xx", "yy"):
        (tmp_path / "bin" / f"dict.{language}.txt").touch()
    script = root / "examples" / "sequence-kd" / "diversify.sh"
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "K": "1"}
    line = [
        str(script),
        str(tmp_path / "bin"),
        "xx",
        "yy",
        str(tmp_path / "out"),
        "--max-update",
        "3",
    ]
    if (root / ".venv" / "bin").is_dir():  # the script prefers it to the PATH
        script = tmp_path / "a" / "b" / "diversify.sh"
        script.parent.mkdir(parents=True)
        script.write_bytes(Path(line[0]).read_bytes())
        line[:1] = ["bash", str(script)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.replace(str(tmp_path), "").splitlines()
    assert [" ".join(text.split()[:3]) for text in said] == [
        "fairseq-train /bin --user-dir",
        "tsa-mt forward-translate /bin",
        "fairseq-train /bin --user-dir",
        "tsa-mt forward-translate /bin",
        "tsa-mt merge-data /out/merged",
        "fairseq-train /out/merged/data-bin --user-dir",
    ]
    assert "-s yy -t xx --teacher /out/backward-1/checkpoint_best.pt" in said[3]
    assert "/out/forward-1.data/data-bin /out/backward-1.data/data-bin -s xx -t yy" in said[4]
