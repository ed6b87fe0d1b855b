"""A training set translated by the teacher: complete, resumable, under the same dictionaries."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from fairseq.data.data_utils import load_indexed_dataset

from tsa_mt.cli import main
from tsa_mt.forward_translate.corpus import Corpus

FLAGS = ["--beam", "2", "--max-tokens", "60", "--cpu", "--generate", "--max-len-b 15"]


def translate(toy, out, teacher, *flags, chunk=10, data=None):
    arguments = ["forward-translate", data or toy.data, out, "--teacher", teacher, *FLAGS]
    return main([*map(str, arguments), "--chunk-sentences", str(chunk), *map(str, flags)])


def contents(folder):
    """Every file of a folder but fairseq-preprocess's log, which holds paths and times."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "preprocess.log"
    }


@pytest.fixture(scope="module")
def translated(toy, teacher_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("translated")
    assert translate(toy, out, teacher_file) == 0
    return out


def test_every_sentence_has_the_translation_that_fairseq_generate_gives(
    toy, translated, teacher_file, tmp_path
):
    expected = toy.generate(teacher_file, tmp_path, "--max-len-b", "15", split="train")
    assert (translated / "train.yy").read_text().splitlines() == expected
    assert len(expected) == 48
    original = (toy.folder / "train.xx").read_text()
    assert (translated / "train.xx").read_text() == original


def test_the_binarised_corpus_has_the_old_dictionaries_sources_and_other_splits(toy, translated):
    made, old = translated / "data-bin", toy.data
    for name in ("dict.xx.txt", "dict.yy.txt", "valid.xx-yy.yy.bin", "test.xx-yy.xx.idx"):
        assert (made / name).read_bytes() == (old / name).read_bytes()
    pairs = zip(Corpus(made).dataset("train", 0), Corpus(old).dataset("train", 0), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)
    target = Dictionary.load(str(old / "dict.yy.txt"))
    tokens = load_indexed_dataset(str(made / "train.xx-yy.yy"), target)
    text = [target.string(sentence) for sentence in tokens]
    assert text == (translated / "train.yy").read_text().splitlines()


def test_a_student_trains_on_it(toy, translated, tmp_path):
    from dataclasses import replace

    student = replace(toy, folder=translated)
    assert student.train(tmp_path, "--arch", "transformer_tiny", updates=1).is_file()


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(
    toy, translated, teacher_file, tmp_path, root
):
    command = [sys.executable, "-m", "tsa_mt.cli", "forward-translate", toy.data, tmp_path / "out"]
    command += ["--teacher", teacher_file, *FLAGS, "--chunk-sentences", "10"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen([*map(str, command)], env=environment, stdout=subprocess.DEVNULL)
    chunks, deadline = tmp_path / "out" / "chunks", time.monotonic() + 120
    while not list(chunks.glob("train.*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in chunks.glob("train.*")}
    assert 0 < len(done) < 5
    assert not (tmp_path / "out" / "data-bin").exists()
    (chunks / ".train.5-of-5.tsv.1.partial").write_text("0\thalf a li")
    assert translate(toy, tmp_path / "out", teacher_file) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert contents(tmp_path / "out") == contents(translated)


def test_workers_share_the_chunks_and_end_in_the_same_bytes(
    toy, translated, teacher_file, tmp_path, capsys
):
    for rank in (1, 0):
        flags = ["--distributed-world-size", 2, "--distributed-rank", rank]
        assert translate(toy, tmp_path, teacher_file, *flags) == 0
    printed = capsys.readouterr().out
    assert "3 of 5 chunks are not there yet" in printed
    assert "0 of 5 chunks are not there yet; run once more without" in printed
    assert not (tmp_path / "data-bin").exists()
    assert translate(toy, tmp_path, teacher_file) == 0
    assert contents(tmp_path) == contents(translated)


def test_samples_do_not_depend_on_what_was_done_before(toy, teacher_file, tmp_path):
    flags = ["--generate=--sampling", "--beam", 1]
    assert translate(toy, tmp_path, teacher_file, *flags) == 0
    first = (tmp_path / "train.yy").read_bytes()
    sorted((tmp_path / "chunks").glob("train.*"))[3].unlink()
    assert translate(toy, tmp_path, teacher_file, *flags, "--force") == 0
    assert (tmp_path / "train.yy").read_bytes() == first


def test_more_chunks_than_batches_lose_nothing(toy, translated, teacher_file, tmp_path):
    assert translate(toy, tmp_path, teacher_file, chunk=1) == 0
    assert len(list((tmp_path / "chunks").glob("train.*"))) == 48
    assert (tmp_path / "train.yy").read_bytes() == (translated / "train.yy").read_bytes()


def test_a_training_set_in_two_parts_is_translated_whole(toy, translated, teacher_file, tmp_path):
    data = shutil.copytree(toy.data, tmp_path / "data-bin")
    for path in list(data.glob("valid.*")):
        shutil.copyfile(path, data / path.name.replace("valid", "train1"))
    assert translate(toy, tmp_path / "out", teacher_file, data=data) == 0
    lines = (tmp_path / "out" / "train.yy").read_text().splitlines()
    assert lines[:48] == (translated / "train.yy").read_text().splitlines()
    assert len(lines) == 48 + 9
    made = tmp_path / "out" / "data-bin"
    assert not list(made.glob("train1.*"))
    assert len(Corpus(made).dataset("train", 1)) == 57


@pytest.fixture
def short_sighted(teacher_file, tmp_path):
    """A teacher that reads at most five tokens, the end mark included."""
    state = torch.load(teacher_file, weights_only=False)
    state["cfg"]["model"].max_source_positions = 5
    torch.save(state, tmp_path / "short.pt")
    return tmp_path / "short.pt"


def test_sentences_too_long_for_the_teacher_are_an_error_or_keep_their_reference(
    toy, translated, short_sighted, tmp_path, capsys
):
    sources = (toy.folder / "train.xx").read_text().splitlines()
    long = [n for n, source in enumerate(sources) if len(source.split()) > 4]
    assert 0 < len(long) < 48
    assert translate(toy, tmp_path / "out", short_sighted) == 1
    message = f"{len(long)} sentences of train are longer than the 5 tokens that the teacher reads"
    assert message in capsys.readouterr().err
    assert translate(toy, tmp_path / "out", short_sighted, "--keep-too-long") == 0
    assert f"48 sentences, {len(long)} of them with their reference" in capsys.readouterr().out
    lines = (tmp_path / "out" / "train.yy").read_text().splitlines()
    references = (toy.folder / "train.yy").read_text().splitlines()
    others = (translated / "train.yy").read_text().splitlines()
    assert lines == [(references if n in long else others)[n] for n in range(48)]


def test_unknown_words_survive_the_way_back(toy, teacher_file, tmp_path):
    data = shutil.copytree(toy.data, tmp_path / "data-bin")
    path = data / "train.xx-yy.xx.bin"
    tokens = np.fromfile(path, dtype=np.uint16)
    tokens[0] = 3  # <unk>
    tokens.tofile(path)
    assert translate(toy, tmp_path / "out", teacher_file, data=data) == 0
    made = Corpus(tmp_path / "out" / "data-bin").dataset("train", 0)
    assert made[0][0] == 3
    assert torch.equal(made[1], Corpus(toy.data).dataset("train", 0)[1])


def test_symbols_that_text_cannot_hold_are_noticed(toy, teacher_file, tmp_path, capsys):
    data = shutil.copytree(toy.data, tmp_path / "data-bin")
    dictionary = data / "dict.xx.txt"
    dictionary.write_text(dictionary.read_text().replace("w1 ", "w\u00a01 "))
    (tmp_path / "teacher").mkdir()
    shutil.copy(dictionary, tmp_path / "teacher")
    teacher = shutil.copy(teacher_file, tmp_path / "teacher")
    assert translate(toy, tmp_path / "out", teacher, data=data) == 1
    assert "the source side did not survive binarisation" in capsys.readouterr().err
    assert not (tmp_path / "out" / "data-bin").exists()


def test_chunks_of_another_run_are_refused(toy, translated, teacher_file, tmp_path, capsys):
    out = shutil.copytree(translated, tmp_path / "out")
    shutil.rmtree(out / "data-bin")
    assert translate(toy, out, teacher_file, "--beam", 3) == 1
    error = capsys.readouterr().err
    assert "holds chunks of another run (flags was ['--beam', '2'," in error


def test_a_finished_corpus_is_not_replaced_unasked(toy, translated, teacher_file, tmp_path, capsys):
    out = shutil.copytree(translated, tmp_path / "out")
    assert translate(toy, out, teacher_file) == 1
    assert "data-bin exists; pass --force to replace it" in capsys.readouterr().err
    assert translate(toy, out, teacher_file, "--force") == 0
    assert contents(out) == contents(translated)


def test_a_lost_translation_is_noticed(toy, translated, teacher_file, tmp_path, capsys):
    out = shutil.copytree(translated, tmp_path / "out")
    chunk = sorted((out / "chunks").glob("train.*"))[0]
    first, *rest = chunk.read_text().splitlines(keepends=True)
    chunk.write_text("".join(rest))
    assert translate(toy, out, teacher_file, "--force") == 1
    message = f"1 sentences of train have no translation, the first is number {first.split()[0]}"
    assert message in capsys.readouterr().err
    chunk.write_text("".join([first, first, *rest]))
    assert translate(toy, out, teacher_file, "--force") == 1
    assert "of train was translated twice; delete" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--beam", 0], "--beam is 0; it must be 1 or more"),
        (["--distributed-rank", 2], "--distributed-rank is 2; with --distributed-world-size 1"),
        (["--teacher", "gone.pt"], "teacher gone.pt does not exist"),
        (["--max-tokens", 4], "has 7 tokens, more than the 4 of --max-tokens"),
    ],
)
def test_impossible_arguments_are_sentences(toy, teacher_file, tmp_path, capsys, flags, message):
    assert translate(toy, tmp_path, teacher_file, *flags) == 1
    assert message in capsys.readouterr().err


def test_a_teacher_with_other_dictionaries_is_refused(toy, teacher_file, tmp_path, capsys):
    data = shutil.copytree(toy.data, tmp_path / "data-bin")
    with open(data / "dict.yy.txt", "a") as dictionary:
        dictionary.write("one-more 1\n")
    assert translate(toy, tmp_path / "out", teacher_file, data=data) == 1
    error = capsys.readouterr().err
    assert "has 24 symbols in its target vocabulary, but the target dictionary has 25" in error


def test_a_folder_that_is_no_corpus_is_refused(toy, teacher_file, tmp_path, capsys):
    assert translate(toy, tmp_path / "out", teacher_file, data=tmp_path / "gone") == 1
    assert "gone does not exist; name one that fairseq-preprocess wrote" in capsys.readouterr().err
    assert translate(toy, tmp_path / "out", teacher_file, data=tmp_path) == 1
    assert "cannot be told from its file names" in capsys.readouterr().err
    for name in ("dict.xx.txt", "dict.yy.txt", "valid.xx-yy.xx.bin", "valid.xx-yy.xx.idx"):
        shutil.copyfile(toy.data / name, tmp_path / name)
    assert translate(toy, tmp_path / "out", teacher_file, data=tmp_path) == 1
    assert "holds no training set train.xx-yy.*" in capsys.readouterr().err
    (tmp_path / "dict.yy.txt").unlink()
    assert translate(toy, tmp_path / "out", teacher_file, data=tmp_path) == 1
    assert "dict.yy.txt does not exist" in capsys.readouterr().err
