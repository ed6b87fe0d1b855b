"""A checkpoint's name stands for a whole file at any time, and damage to one is found."""

import json
import os
import socket
import zipfile

import pytest
import torch
from fairseq import checkpoint_utils
from trained import state

from tsa_mt import checksum, files, saving
from tsa_mt.export.checkpoint import load_checkpoint
from tsa_mt.vision.checkpoint import read_classifier


def flip(path):
    """Flips one bit in the middle of the largest tensor."""
    with zipfile.ZipFile(path) as archive:
        tensors = [part for part in archive.infolist() if "/data/" in part.filename]
    largest = max(tensors, key=lambda part: part.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 128 + largest.file_size // 2] ^= 1
    path.write_bytes(content)


def test_a_file_that_is_being_written_tells_whose_it_is(tmp_path):
    with files.writing(tmp_path / "checkpoint_last.pt") as file:
        file.write(b"new")
        (beside,) = tmp_path.iterdir()
        assert f".{socket.gethostname()}.{os.getpid()}.partial" in beside.name


def test_fairseq_saves_and_copies_by_rename(tmp_path, monkeypatch):
    renamed, replace = [], os.replace

    def note(old, new):
        renamed.append(os.fspath(new))
        replace(old, new)

    monkeypatch.setattr(os, "replace", note)
    last, best = str(tmp_path / "checkpoint_last.pt"), str(tmp_path / "checkpoint_best.pt")
    checkpoint_utils.torch_persistent_save({"a": torch.ones(2)}, last)
    assert checkpoint_utils.PathManager.copy(last, best, overwrite=True)
    assert renamed == [last, best]
    assert os.stat(last).st_ino != os.stat(best).st_ino  # damage to one is not damage to both


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path):
    owners = [f"{socket.gethostname()}.999999999", f"{socket.gethostname()}.{os.getppid()}"]
    names = [f".checkpoint_last.pt.0123abcd.{owner}.partial" for owner in (*owners, "other.9")]
    for name in (*names, ".other.partial"):
        (tmp_path / name).write_bytes(b"")
    assert files.sweep(tmp_path, "checkpoint*") == [tmp_path / names[0]]
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:], ".other.partial"}


@pytest.mark.parametrize("damage", ["flipped", "torn", "empty"])
def test_the_newest_intact_checkpoint_takes_the_place_of_a_damaged_one(
    damage, train, tmp_path, same, caplog
):
    train(tmp_path)
    last = tmp_path / "checkpoint_last.pt"
    if damage == "flipped":
        flip(last)
    else:
        os.truncate(last, last.stat().st_size // 2 if damage == "torn" else 0)
    flip(tmp_path / "checkpoint_best.pt")
    content = last.read_bytes()
    assert train(tmp_path) == 0
    said = caplog.text
    assert "checkpoint_last.pt is damaged, " in said
    assert "training goes on from the newest intact checkpoint, checkpoint_2_9.pt, at" in said
    assert (tmp_path / "checkpoint_last.pt.damaged").read_bytes() == content
    same(tmp_path)


def test_a_damaged_checkpoint_without_an_intact_one_is_refused(train, tmp_path):
    train(tmp_path, "--save-interval-updates", "0", "--no-epoch-checkpoints", updates=2)
    for path in tmp_path.glob("*.pt"):
        flip(path)
    damaged = (
        "checkpoint_last.pt is damaged, its part .* and no checkpoint beside it is intact; copy"
    )
    with pytest.raises(checksum.DamagedCheckpoint, match=damaged):
        train(tmp_path)


def test_a_flipped_byte_is_refused_wherever_a_checkpoint_is_read(train, tmp_path):
    train(tmp_path, updates=1)
    path = tmp_path / "checkpoint_last.pt"
    flip(path)
    assert torch.load(path, weights_only=True)  # without a word
    with pytest.raises(checksum.DamagedCheckpoint, match="does not match its checksum; take"):
        checkpoint_utils.load_checkpoint_to_cpu(str(path))
    with pytest.raises(checksum.DamagedCheckpoint, match=f"checkpoint {path} is damaged"):
        train(tmp_path / "other", "--restore-file", path)
    for read in (load_checkpoint, read_classifier):
        with pytest.raises(checksum.DamagedCheckpoint, match=f"checkpoint {path} is damaged"):
            read(path)


def test_checkpoints_from_before_checksums_are_read(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"a": 1}, path, _use_new_zipfile_serialization=False)
    assert checksum.find_damage(path) is None
    path.write_bytes(b"<html>")
    assert checksum.find_damage(path) == "it does not begin as a checkpoint does"


def test_stock_fairseq_reads_what_is_saved(train, tmp_path):
    train(tmp_path, updates=1)
    assert state(tmp_path / "checkpoint_last.pt")["extra_state"]["tsa_mt"]["due"] is None


# --- a full disk --------------------------------------------------------------------------------


@pytest.fixture
def full_at(monkeypatch):
    """Lets files grow to 100 kB only while some saves go on: ``full_at(1, 2)``."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    original, saves = checkpoint_utils.torch_persistent_save, [0]

    def function(*numbers):
        def save(*args, **kwargs):
            saves[0] += 1
            full = saves[0] in numbers
            resource.setrlimit(resource.RLIMIT_FSIZE, (10**5 if full else limits[0], limits[1]))
            try:
                return original(*args, **kwargs)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        monkeypatch.setattr(checkpoint_utils, "torch_persistent_save", save)

    return function


def test_a_full_disk_is_a_warning_and_training_goes_on(full_at, train, tmp_path, same, caplog):
    full_at(2)
    assert train(tmp_path) == 0
    assert "cannot be written: File too large; earlier checkpoints are as they were, and" in (
        caplog.text
    )
    assert not list(tmp_path.glob(".*partial"))
    same(tmp_path)


def test_a_full_disk_at_the_last_save_ends_with_its_own_status(full_at, train, tmp_path):
    full_at(*range(2, 20))
    assert train(tmp_path) == saving.NOT_SAVED
    last = state(tmp_path / "checkpoint_last.pt")
    assert last["optimizer_history"][-1]["num_updates"] == 3


def test_a_full_disk_ends_the_training_where_that_is_asked_for(full_at, train, tmp_path):
    full_at(2)
    assert train(tmp_path, "--kd-end-on-full-disk") == saving.NOT_SAVED
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "failed" and "cannot be written" in record["reason"]
