"""Reading checkpoints without running them, and writing them whole."""

import argparse
import collections
import os

import numpy
import pytest
import torch

from tsa_mt.export.checkpoint import compact, load_checkpoint, options_of, save_checkpoint
from tsa_mt.files import FileError


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_program_in_a_checkpoint_is_refused_by_name_and_not_run(tmp_path):
    torch.save({"model": {}, "cfg": Evil(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt contains \w+\.system, which safe loading"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_what_fairseq_saves_beside_tensors_is_read(tmp_path):
    state = {
        "model": {"weight": torch.ones(1)},
        "args": argparse.Namespace(arch="transformer"),
        "extra_state": collections.OrderedDict(
            val_loss=numpy.float64(3.5), best=numpy.float32(1), counts=numpy.arange(3)
        ),
    }
    torch.save(state, tmp_path / "model.pt")
    loaded = load_checkpoint(tmp_path / "model.pt")
    assert loaded["extra_state"]["val_loss"] == 3.5
    assert loaded["args"].arch == "transformer"


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_checkpoint_is_called_damaged(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pt cannot be read, it is damaged or not"):
        load_checkpoint(tmp_path / "model.pt")


def test_a_checkpoint_that_was_cut_off_is_called_damaged(tmp_path):
    torch.save({"model": {"weight": torch.ones(100)}}, tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cannot be read, it is damaged"):
        load_checkpoint(tmp_path / "model.pt")


def test_a_file_without_a_model_is_refused(tmp_path):
    torch.save(torch.ones(3), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="is not a fairseq checkpoint: it holds no 'model'"):
        load_checkpoint(tmp_path / "model.pt")


def test_a_missing_checkpoint_is_reported_with_those_that_are_there(tmp_path):
    (tmp_path / "checkpoint_best.pt").touch()
    with pytest.raises(FileNotFoundError, match=r"does not exist; .* holds checkpoint_best\.pt"):
        load_checkpoint(tmp_path / "checkpoint_bset.pt")
    with pytest.raises(FileNotFoundError, match=r"holds checkpoint_best\.pt"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_without_options_says_so():
    with pytest.raises(ValueError, match="neither 'cfg' nor 'args'"):
        options_of({"model": {}, "args": None}, "model")


def test_saving_refuses_to_replace_a_file_or_a_folder(tmp_path):
    save_checkpoint({"model": {}}, tmp_path / "deep" / "model.pt")
    with pytest.raises(FileExistsError, match=r"model\.pt exists; pass --force"):
        save_checkpoint({"model": {}}, tmp_path / "deep" / "model.pt")
    with pytest.raises(FileExistsError, match="is a folder; name a file"):
        save_checkpoint({"model": {}}, tmp_path / "deep", force=True)


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    save_checkpoint({"model": {"weight": torch.ones(1)}}, tmp_path / "model.pt")
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint({"model": {"weight": lambda: None}}, tmp_path / "model.pt", force=True)
    assert load_checkpoint(tmp_path / "model.pt")["model"]["weight"].tolist() == [1.0]
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_full_disk_is_told_in_a_sentence_though_pytorch_hides_it(monkeypatch):
    def fail(state, stream):
        raise RuntimeError("enforce fail at inline_container.cc")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(FileError, match="^/dev/full cannot be written: No space left on device$"):
        save_checkpoint({"model": {}}, "/dev/full", force=True)


def test_compacting_drops_the_storage_behind_a_view_and_keeps_sharing():
    storage = torch.zeros(1000, 4)
    weights = compact({"a": storage[:2], "b": storage[:2], "c": storage[2:4]})
    assert weights["a"] is weights["b"]
    assert weights["c"] is not weights["a"]
    assert weights["a"].untyped_storage().nbytes() == 2 * 4 * 4
