"""Certificates of exported image classifiers; tests/vision has the formats themselves."""

import hashlib
import json

import pytest
import torch

from tsa_mt.cli import main as tsa_mt_cli
from tsa_mt.export import image
from tsa_mt.export.image import IMAGES, TOLERANCE

OPTIONS = {
    "_name": "tree_classifier",
    "backbone": "resnet20",
    "tree": "6(3,3)",
    "kd_objective": "independent",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A classifier that was never trained."""
    from tsa_mt.vision.checkpoint import TASK, _build

    torch.manual_seed(3)
    state = {
        "model": _build(dict(OPTIONS), 10).state_dict(),
        "cfg": {"model": OPTIONS, "task": {"_name": TASK}, "dataset": {}, "common": {}},
        "task_state": {
            "class_names": [f"kind{n}" for n in range(10)],
            "image_size": 32,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
        },
        "extra_state": {},
        "optimizer_history": [{"num_updates": 7}],
    }
    path = tmp_path_factory.mktemp("run") / "checkpoint_last.pt"
    torch.save(state, path)
    return path


def export(checkpoint, out, *flags):
    return tsa_mt_cli(["export", str(checkpoint), str(out), *map(str, flags)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("to", ["state_dict", "torchscript"])
def test_the_certificate_of_a_classifier_compares_logits_and_classes(to, checkpoint, tmp_path):
    assert export(checkpoint, tmp_path / "out", "--to", to, "--branch", 1) == 0
    found = json.loads((tmp_path / "out" / "certificate.json").read_text())
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert found["checkpoint"] == {"path": str(checkpoint), "sha256": digest, "branch": 1}
    assert found["export"]["format"] == to
    assert set(found["export"]["files"]) == {
        path.name for path in (tmp_path / "out").iterdir() if path.name != "certificate.json"
    }
    assert found["reference"] == {"source": "random pixels", "images": IMAGES}
    assert (found["identical"], found["different"], found["passed"]) == (IMAGES, 0, True)
    assert 0 <= found["max_logit_difference"] <= TOLERANCE


def test_a_graph_that_nothing_could_run_is_not_certified_to_pass(checkpoint, tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="onnx is not installed")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert export(checkpoint, tmp_path / "out", "--to", "onnx") == 0
    found = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert (found["max_logit_difference"], found["passed"]) == (None, False)


def test_a_file_that_gives_other_logits_is_not_kept(checkpoint, tmp_path, capsys, monkeypatch):
    chosen = image.FORMATS["state_dict"]
    wrong = chosen._replace(logits=lambda path, network, images: network(images) + 1)
    monkeypatch.setitem(image.FORMATS, "state_dict", wrong)
    assert export(checkpoint, tmp_path / "out", "--to", "state_dict") == 1
    assert "does not give the model's logits (they differ by 1.0e+00)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_classifier_can_be_exported_without_a_certificate(checkpoint, tmp_path):
    assert export(checkpoint, tmp_path / "out", "--to", "state_dict", "--no-certificate") == 0
    assert not (tmp_path / "out" / "certificate.json").exists()


@pytest.mark.parametrize("flag", ["--max-bleu-drop", "--quantization", "--data"])
def test_flags_for_translation_are_refused_for_classifiers(flag, checkpoint, tmp_path, capsys):
    value = "0.3" if flag == "--max-bleu-drop" else "int8"
    assert export(checkpoint, tmp_path / "out", "--to", "torchscript", flag, value) == 1
    assert f"{flag} is for translation models; --to torchscript makes an" in capsys.readouterr().err


def test_the_best_leaf_of_a_classifier_is_read_from_its_curves(checkpoint, tmp_path, capsys):
    curves = checkpoint.with_name("curves.csv")
    curves.write_text("update,epoch,split,metric,value\n7,1,valid,nll_b0,2\n7,1,valid,nll_b1,1\n")
    assert export(checkpoint, tmp_path / "out", "--to", "state_dict", "--branch", "best") == 0
    assert "leaf 1 of resnet20 with tree 6(3,3)" in capsys.readouterr().out
