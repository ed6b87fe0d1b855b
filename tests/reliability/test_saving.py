"""A checkpoint's name stands for a whole file at any time, and damage to one is found."""

import os
import socket
import zipfile

import pytest
import torch
from fairseq import checkpoint_utils
from trained import state

from tsa_mt import checksum, files


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


def test_checkpoints_from_before_checksums_are_read(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"a": 1}, path, _use_new_zipfile_serialization=False)
    assert checksum.find_damage(path) is None
    path.write_bytes(b"<html>")
    assert checksum.find_damage(path) == "it does not begin as a checkpoint does"


def test_stock_fairseq_reads_what_is_saved(train, tmp_path):
    train(tmp_path, updates=1)
    assert state(tmp_path / "checkpoint_last.pt")["extra_state"]["tsa_mt"]["due"] is None
