"""One training per folder, and a checkpoint goes on only as what it was trained as."""

import json
import shutil
import subprocess
import sys

import pytest
import tiny_training

from tsa_mt import identity
from tsa_mt.run_lock import NAME, FolderInUse, RunLock

HOLD = """
import sys
from tsa_mt.run_lock import RunLock
lock = RunLock(sys.argv[1])
lock.take()
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path, root):
    """Another process that holds the lock of the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "taken\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_in_use_is_refused_by_the_name_of_its_owner(holder, tmp_path, train):
    owner = json.loads((tmp_path / NAME).read_text())
    said = f"belongs to the training of process {holder.pid} on {owner['host']} since "
    with pytest.raises(FolderInUse, match=f"{said}.*; give another --save-dir"):
        train(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {NAME}


def test_the_lock_of_a_killed_training_is_explained_and_taken_over(holder, tmp_path, caplog):
    holder.kill()
    holder.wait()
    lock = RunLock(tmp_path)
    lock.take()
    assert f"the training of process {holder.pid} on " in caplog.text
    assert "ended without a word; this one goes on" in caplog.text
    assert json.loads((tmp_path / NAME).read_text())["pid"] != holder.pid
    lock.leave()
    assert not (tmp_path / NAME).exists()


def test_a_training_leaves_no_lock_behind(train, tmp_path):
    train(tmp_path, updates=1)
    assert not (tmp_path / NAME).exists()


@pytest.fixture
def begun(train, tmp_path):
    train(tmp_path / "run", updates=1)
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ("--kd-objective", "one"),
            "was trained with objective okddip and this training has objective one; give another",
        ),
        (
            ("--kd-temperature", "2"),
            "with option temperature 3.0 and this training has option temperature 2.0; give",
        ),
        (
            ("--tree", "1(1,1)"),
            "with tree 1\\(1,1,1\\) and this training has tree 1\\(1,1\\); give another --save-dir",
        ),
    ],
)
def test_a_checkpoint_of_another_method_is_refused_by_name(flags, said, begun, train):
    with pytest.raises(identity.AnotherRun, match=said):
        train(begun, *flags, updates=2)


def test_other_words_and_other_data_are_refused_and_data_can_be_changed_on_purpose(
    begun, data, train, tmp_path, monkeypatch
):
    other = tmp_path / "data"
    shutil.copytree(data, other)
    train_other = [str(other), *tiny_training.arguments(data, begun)[1:]]
    monkeypatch.setattr(
        tiny_training, "arguments", lambda data, folder, *more: [*train_other, *map(str, more)]
    )
    words = (other / "dict.en.txt").read_text().splitlines()
    (other / "dict.en.txt").write_text("\n".join([*words[1::-1], *words[2:]]) + "\n")
    with pytest.raises(identity.AnotherRun, match="with dictionaries [0-9a-f]{8}... and this"):
        train(begun, "--kd-temperature", "2", updates=2)  # said of the most telling difference
    (other / "dict.en.txt").write_text("\n".join(words) + "\n")
    with open(other / "train.en-de.en.bin", "r+b") as file:
        file.write(b"\5")
    identity.run_facts.data_at_start.cache_clear()
    with pytest.raises(identity.AnotherRun, match="or --reset-dataloader to go on with these"):
        train(begun, "--kd-temperature", "2", updates=2)
    assert train(begun, "--reset-dataloader", updates=2) == 0
