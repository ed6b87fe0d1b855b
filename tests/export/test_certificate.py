"""Certificates: what they hold, what they refuse, and which sentences they take."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest

from tsa_mt.cli import main as tsa_mt_cli
from tsa_mt.evaluate.score import Score, score
from tsa_mt.export import certificate, command
from tsa_mt.export.checkpoint import load_checkpoint, save_checkpoint

BASE = 40.0  # BLEU of the checkpoint in tests that decode nothing


def read(folder):
    return json.loads((folder / "certificate.json").read_text())


def run(capsys, *arguments):
    """Exports from the command line; status, stdout and stderr."""
    status = tsa_mt_cli(["export", *map(str, arguments)])
    captured = capsys.readouterr()
    return SimpleNamespace(status=status, out=captured.out, error=captured.err)


@pytest.fixture
def checkpoint(tree_run):
    return tree_run / "checkpoint_last.pt"


@pytest.fixture
def pretended(monkeypatch):
    """Decodes nothing: an int8 model loses 2 BLEU, and every other quantization 0.1."""

    def decoded(bleu):
        scores = [Score("BLEU", bleu, "signature", ""), Score("chrF2", 60.0, "signature", "")]
        return certificate.Decoded([("a",)] * 20, scores, 10.0, "float32")

    fill, stored = certificate.Export.fill, {}

    def noted(export, folder, quantization):
        stored[folder] = quantization
        fill(export, folder, quantization)

    def after(folder, reference):
        return decoded(BASE - (2.0 if stored[folder] == "int8" else 0.1))

    monkeypatch.setattr(certificate.Export, "fill", noted)
    monkeypatch.setattr(command, "decode_before", lambda export, reference: decoded(BASE))
    monkeypatch.setattr(certificate, "decode_after", after)


def test_a_fairseq_export_is_certified_to_translate_like_its_checkpoint(
    checkpoint, toy, tmp_path, capsys
):
    """The whole certificate: it is checked against the files, the data and the scores."""
    done = run(capsys, checkpoint, tmp_path / "out", "--to", "fairseq", "--branch", 1)
    assert done.status == 0
    found = read(tmp_path / "out")
    assert found["format"] == 1
    assert (found["identical"], found["different"], found["passed"]) == (20, 0, True)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert found["checkpoint"] == {"path": str(checkpoint), "sha256": digest, "branch": 1}
    assert (found["export"]["format"], found["export"]["quantization"]) == ("fairseq", None)
    files = found["export"]["files"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert set(files) == names - {"certificate.json"}
    for name, entry in files.items():
        content = (tmp_path / "out" / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert found["reference"]["sentences"] == 20
    assert found["reference"]["source"] == f"20 sentences of the valid split of {toy.data}"
    assert found["decoding"]["beam"] == 5
    assert found["before"]["scores"] == found["after"]["scores"]
    assert [s["name"] for s in found["before"]["scores"]] == ["BLEU", "chrF2"]
    assert found["before"]["scores"][0]["signature"].startswith("nrefs:1|case:mixed|")
    assert found["before"]["bytes"] == checkpoint.stat().st_size
    sizes = [entry["bytes"] for name, entry in files.items() if name != "README.md"]
    assert found["after"]["bytes"] == sum(sizes)
    assert found["before"]["sentences_per_second"] > 0
    assert found["hardware"]["cores"] and found["versions"]["torch"]
    assert "20 of 20 translations are the checkpoint's" in done.out
    assert "20 of 20 translations are the checkpoint's" in (tmp_path / "out/README.md").read_text()
    assert "at least 500 make it mean something" in done.error


def test_a_certificate_counts_and_scores_what_the_models_say(
    exports, toy, checkpoint, tmp_path, capsys
):
    """The test set as raw text, through CTranslate2, against fairseq-generate's own output."""
    pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    files = (toy.folder / "test.xx", toy.folder / "test.yy")
    flags = ["--to", "ctranslate2", "--quantization", "int8", "--reference", *files]
    assert run(capsys, checkpoint, tmp_path / "out", *flags).status == 0
    found = read(tmp_path / "out")
    texts = exports.stock.text("tree0")
    expected = score(texts, [toy.raw("test", "yy")])
    assert [s["score"] for s in found["before"]["scores"]] == [s.score for s in expected]
    assert found["reference"]["sentences"] == 61
    assert found["identical"] + found["different"] == 61
    assert found["export"]["quantization"] == "int8"
    assert found["before"]["compute_type"] == "float32"
    assert found["after"]["compute_type"].startswith("int8")
    assert found["bleu_drop"] == pytest.approx(
        found["before"]["scores"][0]["score"] - found["after"]["scores"][0]["score"]
    )


def test_too_large_a_drop_writes_nothing_and_names_what_would_pass(
    checkpoint, tmp_path, capsys, pretended
):
    pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    flags = ["--to", "ctranslate2", "--quantization", "int8", "--max-bleu-drop", "0.3"]
    done = run(capsys, checkpoint, tmp_path / "out", *flags)
    assert done.status == 1
    assert "int8 loses 2.00 BLEU (40.00 to 38.00 on 20 sentences of the valid split" in done.error
    assert "more than --max-bleu-drop 0.3 allows; nothing was written; these" in done.error
    passing = done.error.partition("would pass: ")[2]
    assert "float16 (-0.10 BLEU, " in passing
    assert "bytes, computed here in float32)" in passing
    assert passing.index("float16") < passing.index("float32")  # the smaller model first
    assert "int8 (" not in passing
    assert list(tmp_path.iterdir()) == []


def test_a_drop_that_no_quantization_avoids_is_told(checkpoint, tmp_path, capsys, pretended):
    pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    flags = ["--to", "ctranslate2", "--quantization", "int8", "--max-bleu-drop", "0.05"]
    done = run(capsys, checkpoint, tmp_path / "out", *flags)
    assert done.status == 1
    assert "no other quantization of this format would pass" in done.error


def test_a_drop_that_is_allowed_is_written_down(checkpoint, tmp_path, capsys, pretended):
    pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    flags = ["--to", "ctranslate2", "--quantization", "int8", "--max-bleu-drop", "2.5"]
    assert run(capsys, checkpoint, tmp_path / "out", *flags).status == 0
    found = read(tmp_path / "out")
    assert (found["max_bleu_drop"], found["bleu_drop"], found["passed"]) == (2.5, 2.0, True)


def test_a_failing_export_leaves_the_earlier_one(checkpoint, tmp_path, capsys, pretended):
    pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    flags = ["--to", "ctranslate2", "--quantization", "int8", "--max-bleu-drop"]
    assert run(capsys, checkpoint, tmp_path / "out", *flags, "3").status == 0
    before = (tmp_path / "out" / "certificate.json").read_bytes()
    assert run(capsys, checkpoint, tmp_path / "out", *flags, "1", "--force").status == 1
    assert (tmp_path / "out" / "certificate.json").read_bytes() == before


@pytest.fixture
def bare(checkpoint, toy, tmp_path):
    """A checkpoint whose data folder has dictionaries and no sentences."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("dict.xx.txt", "dict.yy.txt", "sentencepiece.bpe.model"):
        shutil.copy(toy.data / name, folder)
    state = load_checkpoint(checkpoint)
    state["cfg"]["task"]["data"] = str(folder)
    return SimpleNamespace(path=save_checkpoint(state, folder / "model.pt"), data=folder)


def test_without_sentences_the_ways_out_are_named(bare, tmp_path, capsys):
    done = run(capsys, bare.path, tmp_path / "out", "--to", "fairseq")
    assert done.status == 1
    assert f"{bare.data} has no binarised valid or test split; name some with" in done.error
    assert not (tmp_path / "out").exists()
    done = run(capsys, bare.path, tmp_path / "out", "--to", "fairseq", "--no-certificate")
    assert done.status == 0
    assert not (tmp_path / "out" / "certificate.json").exists()
    assert "certificate" not in (tmp_path / "out" / "README.md").read_text()


def test_a_test_set_is_certified_with_but_decides_nothing(bare, toy, tmp_path, capsys):
    for path in toy.data.glob("test.*"):
        shutil.copy(path, bare.data)
    flags = ["--to", "fairseq", "--max-bleu-drop", "1"]
    done = run(capsys, bare.path, tmp_path / "out", *flags)
    assert done.status == 1
    assert "has a test set only, which nothing may be chosen on; name other" in done.error
    flags = ["--to", "fairseq", "--reference-sentences", "2"]
    assert run(capsys, bare.path, tmp_path / "out", *flags).status == 0
    assert read(tmp_path / "out")["reference"]["split"] == "test"


def test_the_export_of_an_export_is_certified_on_the_same_sentences(checkpoint, tmp_path, capsys):
    flags = ["--reference-sentences", "3", "--to"]
    assert run(capsys, checkpoint, tmp_path / "one", *flags, "fairseq").status == 0
    assert run(capsys, tmp_path / "one", tmp_path / "two", *flags, "safetensors").status == 0
    one, two = read(tmp_path / "one"), read(tmp_path / "two")
    assert one["reference"] == two["reference"]
    assert two["checkpoint"]["path"] == str(tmp_path / "one" / "model.pt")
    assert (two["identical"], two["checkpoint"]["branch"]) == (3, 0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-bleu-drop", "1", "--no-certificate"], "--no-certificate compares nothing"),
        (["--max-bleu-drop", "-1"], "--max-bleu-drop -1 is not possible: give 0 or more"),
        (["--max-bleu-drop", "nan"], "--max-bleu-drop nan is not possible: give 0 or more"),
        (["--reference", "a", "b", "--no-certificate"], "--reference is for the certificate"),
        (["--reference-sentences", "0"], "--reference-sentences 0: it needs 1 or more"),
        (["--reference", "a", "b"], "a does not exist"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(flags, message, checkpoint, tmp_path, capsys):
    done = run(capsys, checkpoint, tmp_path / "out", "--to", "fairseq", *flags)
    assert done.status == 1
    assert message in done.error
    assert done.error.count("\n") == 1
    assert not (tmp_path / "out").exists()
