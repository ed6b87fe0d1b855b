"""A training starts from a checkpoint of another one only if every number means the same symbol."""

import shutil

import pytest


@pytest.fixture
def reordered(toy, teacher_file, tmp_path):
    """A checkpoint beside whose file lies a dictionary with two symbols in another order."""
    lines = (toy.data / "dict.xx.txt").read_text().splitlines()
    (tmp_path / "dict.xx.txt").write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    shutil.copy(toy.data / "dict.yy.txt", tmp_path)
    return shutil.copy(teacher_file, tmp_path / "plain.pt")


@pytest.mark.parametrize("flag", ["--finetune-from-model", "--restore-file"])
def test_a_warm_start_from_another_dictionary_of_the_same_size_is_refused(
    flag, toy, reordered, tmp_path
):
    expected = "checkpoint .*plain.pt has other symbols than the source dictionary: number 4 is"
    with pytest.raises(ValueError, match=expected):
        toy.train(tmp_path / "run", "--arch", "transformer_tiny", flag, reordered)
    assert not list((tmp_path / "run").glob("*.pt"))
