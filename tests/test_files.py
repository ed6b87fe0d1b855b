"""Files: whole or absent, through links, devices and pipes, and one sentence for every error."""

import errno
import json
import os
import pickle
import stat
import threading

import pytest

from tsa_mt import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- writing ------------------------------------------------------------------------------------


def test_a_file_appears_when_its_block_ends(tmp_path):
    with files.writing(tmp_path / "out") as stream:
        stream.write(b"new")
        stream.flush()
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out").read_bytes() == b"new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("durable", [False, True])
def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path, durable):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), files.writing(path, durable) as stream:
        stream.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_the_mode_of_a_replaced_file_stays_and_a_new_one_has_the_usual(tmp_path):
    private, new = tmp_path / "private", tmp_path / "new"
    private.touch()
    private.chmod(0o600)
    for path in (private, new):
        files.write_text(path, "x", durable=True)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(new.stat().st_mode) == 0o666 & ~umask


def test_a_link_is_followed_also_one_that_leads_nowhere_yet(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target"
    (tmp_path / "near").symlink_to("elsewhere/target")
    (tmp_path / "far").symlink_to("near")
    for text in ("first", "second"):
        files.write_text(tmp_path / "far", text)
        assert target.read_text() == text
    assert (tmp_path / "far").is_symlink() and (tmp_path / "near").is_symlink()
    assert names(tmp_path / "elsewhere") == ["target"]


def test_a_circle_of_links_is_told_in_a_sentence(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(files.FileError, match="a cannot be written: Too many levels of symbolic"):
        files.write_text(tmp_path / "a", "x")


def test_a_pipe_gets_the_bytes_and_stays(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    files.write_lines(pipe, ["one", "two"])
    reader.join(20)
    assert found == [b"one\ntwo\n"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["pipe"]


def test_a_device_is_written_through_and_its_error_is_a_sentence():
    files.write_text("/dev/null", "x")
    with files.whole("/dev/null") as path:
        path.write_text("for a library that wants a path")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(files.FileError, match="^/dev/full cannot be written: No space left on dev"):
        files.write_text("/dev/full", "x")


def test_standard_output_keeps_what_it_holds_already(tmp_path, python):
    program = """
from tsa_mt import files
print("first", flush=True)
files.write_text("/dev/stdout", "second ")
files.write_text("/proc/self/fd/1", "third")
"""
    with open(tmp_path / "log", "w") as log:
        python("-c", program, capture_output=False, stdout=log)
    assert (tmp_path / "log").read_text() == "first\nsecond third"
    assert names(tmp_path) == ["log"]


def test_a_folder_or_a_lost_folder_is_told_in_a_sentence(tmp_path):
    with pytest.raises(files.FileError, match=f"^{tmp_path} cannot be written: it is a folder, na"):
        files.write_text(tmp_path, "x")
    with pytest.raises(files.FileError, match="^.*/no/out cannot be written: No such file or dir"):
        files.write_text(tmp_path / "no" / "out", "x")
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_read_only_file_is_not_replaced(tmp_path):
    path = tmp_path / "out"
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(files.FileError, match="out cannot be written: Permission denied"):
        files.write_text(path, "new")
    assert path.read_text() == "old"


def test_a_read_only_file_counts_as_read_only_for_those_who_may_not_write(tmp_path, monkeypatch):
    path = tmp_path / "out"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(files.FileError, match="out cannot be written: Permission denied"):
        files.write_text(path, "new")
    assert path.read_text() == "old" and names(tmp_path) == ["out"]


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"), files.writing(tmp_path / "out"):
        open(tmp_path / "other", "rb")
    with pytest.raises(OSError, match="^not a picture$"), files.writing(tmp_path / "out"):
        raise OSError("not a picture")


def test_a_long_name_and_one_that_is_not_utf_8_work(tmp_path):
    for name in ("n" * 255, os.fsdecode(b"caf\xe9"), "\U0001f333" * 60):
        files.write_text(tmp_path / name, name)
        assert names(tmp_path) == [name]
        (tmp_path / name).unlink()


def test_the_sentence_survives_the_way_out_of_a_worker_process():
    error = pickle.loads(pickle.dumps(files.FileError(errno.ENOSPC, "x cannot be written: full")))
    assert (error.errno, str(error)) == (errno.ENOSPC, "x cannot be written: full")


# --- reading ------------------------------------------------------------------------------------


def test_json_comes_back_with_names_that_are_not_utf_8(tmp_path):
    value = {"b": [1, 0.5, None, "Bäume \U0001f333"], "a": os.fsdecode(b"caf\xe9")}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_object(tmp_path / "x.json") == value
    assert list(files.read_json(tmp_path / "x.json")) == ["b", "a"]
    files.write_json(tmp_path / "x.json", value, sort=True)
    assert list(json.loads((tmp_path / "x.json").read_text("utf-8"))) == ["a", "b"]


@pytest.mark.parametrize("value", [float("nan"), {"x": float("inf")}, {"x": object()}])
def test_a_value_that_json_lacks_is_refused_before_anything_is_written(value, tmp_path):
    with pytest.raises(ValueError, match=r"x\.json cannot be written as JSON: "):
        files.write_json(tmp_path / "x.json", value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{", b"[" * 100_000])
def test_json_that_is_damaged_is_told_in_a_sentence(content, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json is damaged, it is not JSON: "):
        files.read_json(tmp_path / "x.json")


def test_json_that_is_not_there_or_not_an_object_is_told_in_a_sentence(tmp_path):
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"x\.json is damaged: it holds a list, not an object"):
        files.read_object(tmp_path / "x.json")
    with pytest.raises(FileNotFoundError, match=r"^.*none\.json does not exist$"):
        files.read_json(tmp_path / "none.json")
    with pytest.raises(files.FileError, match=f"^{tmp_path} cannot be read: Is a directory"):
        files.read_json(tmp_path)


@pytest.mark.parametrize("end", ["", "\n"])
def test_only_a_line_feed_ends_a_line(end, tmp_path):
    lines = ["a\r", "", "b\u2028c\x85d\x0be"]
    (tmp_path / "text").write_text("\n".join(lines) + end, newline="")
    assert files.read_lines(tmp_path / "text") == lines
    assert files.read_lines(tmp_path / "text", 3) == lines[1:]
    assert files.read_lines(tmp_path / "text", 0, 3) == lines[:1]


def test_a_checksum_is_that_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert files.digest(tmp_path / "x").startswith("ba7816bf8f01cfea414140de5dae2223")
    assert files.digest(tmp_path / "x", "md5") == "900150983cd24fb0d6963f7d28e17f72"
