"""The shell scripts of examples/: what they refuse, and that they go the whole way."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
WORDS = "sun moon star tree stone river cloud house bird fish".split()


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """Runs a script of examples/ with this Python's commands on PATH."""
    shims = tmp_path_factory.mktemp("bin")
    shim = shims / "tsa-mt"  # the installed command, also where the package is only on the path
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tsa_mt.cli "$@"\n')
    shim.chmod(0o755)
    path = os.pathsep.join(map(str, (shims, Path(sys.executable).parent, os.environ["PATH"])))

    def run(script, *arguments, **variables):
        return subprocess.run(
            [EXAMPLES / script, *map(str, arguments)],
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **variables},
            capture_output=True,
            text=True,
            timeout=550,
        )

    return run


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("multi30k/prepare.sh", [], "prepare.sh: error: expected [LOCAL_DIR] OUT, got 0 arguments"),
        ("multi30k/prepare.sh", ["nowhere", "out"], "LOCAL_DIR 'nowhere' is not a folder"),
        ("multi30k/train.sh", ["plain"], "expected plain|control|tsa DATA_BIN SAVE_DIR, got"),
        ("multi30k/train.sh", ["magic", "d", "s"], "method 'magic' is unknown; choose plain, "),
        ("multi30k/train.sh", ["tsa", "nowhere", "s"], "DATA_BIN 'nowhere' holds no dict.de.txt"),
        ("multi30k/evaluate.sh", ["s"], "expected SAVE_DIR DATA_BIN RAW, got 1 arguments"),
        ("multi30k/evaluate.sh", ["s", "d", "r"], "s/checkpoint_best.pt is missing; run train.sh"),
        ("bi-simcut/run.sh", ["d"], "run.sh: error: expected DATA_BIN SOURCE TARGET OUT, got 1"),
        ("bi-simcut/run.sh", ["no", "en", "de", "o"], "DATA_BIN 'no' holds no dict.en.txt"),
        ("custom/run.sh", ["a.en"], "expected SOURCE TARGET OUT, got 1 arguments"),
        ("custom/run.sh", ["a.en", "a.de", "out"], "'a.en' does not exist"),
        ("custom/run.sh", [ROOT / "Makefile", __file__, "out"], "Makefile' has no language at the"),
    ],
)
def test_a_script_says_what_is_wrong_with_its_arguments(call, script, arguments, message):
    done = call(script, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().split("\n")) == 1


def test_multi30k_is_prepared_once_and_completely(call, shared_data, tmp_path):
    first = call("multi30k/prepare.sh", shared_data / "multi30k", tmp_path)
    assert first.returncode == 0, first.stderr
    for split, lines in {"train": 29000, "val": 1014, "test_2017_mscoco": 461}.items():
        for kind in ("raw", "pieces"):
            assert (tmp_path / kind / f"{split}.de").read_bytes().count(b"\n") == lines
    data = {path.name for path in (tmp_path / "data-bin").iterdir()}
    assert {"dict.en.txt", "test2.en-de.de.bin", "sentencepiece.bpe.model"} <= data
    again = call("multi30k/prepare.sh", shared_data / "multi30k", tmp_path)
    assert "is complete, nothing to do" in again.stdout


def test_multi30k_text_that_is_not_the_published_one_is_refused(call, shared_data, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "val.en").write_text("A dog .\n" * 1014)
    done = call("multi30k/prepare.sh", shared_data / "multi30k", tmp_path)
    assert done.returncode == 1
    assert "prepare.sh: wrong SHA-256: val.en\n" in done.stderr


@pytest.fixture(scope="module")
def own_text(tmp_path_factory):
    """Two files of a person: the target is the source backwards."""
    folder, rng = tmp_path_factory.mktemp("own"), random.Random(1)
    lines = {" ".join(rng.sample(WORDS, 5)): None for _ in range(1200)}
    (folder / "text.en").write_text("".join(f"{line}\n" for line in lines))
    turned = (" ".join(reversed(line.split())).upper() for line in lines)
    (folder / "text.de").write_text("".join(f"{line}\n" for line in turned))
    return folder


def test_own_text_becomes_an_exported_model_in_one_command(call, own_text, tmp_path):
    done = call(
        "custom/run.sh",
        own_text / "text.en",
        own_text / "text.de",
        tmp_path,
        *("--max-update", "3", "--cpu", "--max-tokens", "500"),
        ARCH="tree_transformer_tiny",
        VOCABULARY="310",
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    for folder, file in (("model", "model.pt"), ("model-ct2", "model.bin")):
        names = {path.name for path in (tmp_path / folder).iterdir()}
        assert {file, "sentencepiece.bpe.model"} <= names
    assert "BLEU" in (tmp_path / "run" / "test.json").read_text()
