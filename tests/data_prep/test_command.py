"""The whole command on a small corpus: results, restarts, changes, and bad requests."""

import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def snapshot(out):
    """Bytes of everything that a preparation leaves outside of its work folder."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.relative_to(out).parts[0] != "work"
    }


def manifest(out):
    return json.loads((out / "manifest.json").read_text(encoding="utf-8"))


def worked(output):
    """The steps that a run says it took, but for the manifest."""
    return set(re.findall(r"^(\w+(?:/\w+)?): ", output, re.MULTILINE)) - {"manifest", "note"}


def preprocessed(folder, text, out, extra):
    """What fairseq-preprocess makes of encoded text."""
    from fairseq import options
    from fairseq_cli.preprocess import main

    arguments = ["--source-lang", "en", "--target-lang", "de", "--destdir", str(folder), *extra]
    for split in ("train", "valid", "test"):
        arguments += [f"--{split}pref", str(text / split)]
    main(options.get_preprocessing_parser().parse_args(arguments))
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".log"}


def encoded(out, folder, encode):
    folder.mkdir()
    for path in (out / "text").iterdir():
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        (folder / path.name).write_text("".join(f"{encode(line)}\n" for line in lines))
    return folder


def test_sentencepiece_data_equals_fairseq_preprocess_byte_for_byte(custom, prepare, tmp_path):
    import sentencepiece

    assert prepare(*custom, "--out", tmp_path / "out")[0] == 0
    model = sentencepiece.SentencePieceProcessor(
        model_file=str(tmp_path / "out" / "subword" / "sentencepiece.bpe.model")
    )
    text = encoded(
        tmp_path / "out", tmp_path / "enc", lambda line: " ".join(model.encode(line, out_type=str))
    )
    data = tmp_path / "out" / "data-bin"
    expected = preprocessed(
        tmp_path / "bin",
        text,
        data,
        ["--joined-dictionary", "--srcdict", str(data / "dict.en.txt")],
    )
    assert {path.name: path.read_bytes() for path in data.iterdir()} == expected


def test_byte_pair_data_equals_fairseq_preprocess_byte_for_byte(custom, prepare, tmp_path):
    apply_bpe = pytest.importorskip("subword_nmt.apply_bpe", reason="extra [data] not installed")
    arguments = [
        *custom,
        "--preparation",
        "published",
        "--out",
        tmp_path / "out",
        "--set",
        "preparations.published.subword.joined_dictionary=false",
    ]
    assert prepare(*arguments)[0] == 0
    with open(tmp_path / "out" / "subword" / "bpe.codes", encoding="utf-8") as codes:
        bpe = apply_bpe.BPE(codes)
    text = encoded(tmp_path / "out", tmp_path / "enc", bpe.process_line)
    expected = preprocessed(tmp_path / "bin", text, tmp_path / "out", [])
    data = tmp_path / "out" / "data-bin"
    assert {path.name: path.read_bytes() for path in data.iterdir()} == expected


def test_a_second_run_has_nothing_to_do_and_changes_nothing(custom, prepare, tmp_path):
    out = tmp_path / "out"
    prepare(*custom, "--out", out)
    before = {name: os.stat(out / name).st_mtime_ns for name in snapshot(out)}
    status, said, _ = prepare(*custom, "--out", out)
    assert status == 0 and "nothing to do" in said
    assert {name: os.stat(out / name).st_mtime_ns for name in snapshot(out)} == before


def test_the_result_depends_neither_on_the_workers_nor_on_the_folder(custom, prepare, tmp_path):
    prepare(*custom, "--out", tmp_path / "one")
    prepare(*custom, "--out", tmp_path / "other" / "place", "--workers", "2")
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "other" / "place")


def test_small_parts_give_the_same_data(custom, prepare, tmp_path):
    """Only the lists of parts may differ, not the text, the model or the data."""
    prepare(*custom, "--out", tmp_path / "one")
    prepare(*custom, "--out", tmp_path / "two", "--set", "part_lines=37")
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_parts_that_lose_all_their_pairs_do_no_harm(custom, prepare, tmp_path):
    limit = ["--set", "preparations.modern.subword.filters.max_words=9"]
    prepare(*custom, *limit, "--out", tmp_path / "one")
    prepare(*custom, *limit, "--out", tmp_path / "two", "--set", "part_lines=4")
    steps = manifest(tmp_path / "one")["splits"]["train"]["steps"]
    assert 0 < steps[-1]["out"] < 200
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_the_manifest_says_what_is_in_the_data(custom, prepare, tmp_path, corpus, write):
    import hashlib

    lines = (corpus / "train.en").read_text().split("\n")[:-1]
    german = (corpus / "train.de").read_text().split("\n")[:-1]
    write(corpus / "train.en", [*lines, lines[0], "same 1", ""])
    write(corpus / "train.de", [*german, german[0], "same 1", "x"])
    out = tmp_path / "out"
    prepare(*custom, "--out", out)
    found = manifest(out)
    assert found["complete"] and found["preparation"] == "modern"
    steps = {step["step"]: step for step in found["splits"]["train"]["steps"]}
    assert steps["extract"]["out"] == 303
    assert steps["clean"]["dropped"] == {"empty": 1, "identical": 1}
    assert steps["duplicates"]["dropped"] == {"duplicate": 1}
    assert found["splits"]["train"]["pairs"] == 300
    assert [f["checked"] for f in found["files"].values()] == ["no"] * 6
    for name, entry in found["outputs"].items():
        data = (out / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert set(found["outputs"]) == set(snapshot(out)) - {"manifest.json", "report.md"}
    assert len(found["samples"]) == 5 and found["samples"][0]["target"] == german[0]
    statistics = found["splits"]["test"]["statistics"]["de"]
    assert statistics["unknown"] == 0
    assert statistics["tokens"] == pytest.approx(40 * (statistics["mean"] + 1), abs=1)
    assert found["train"].startswith("fairseq-train data-bin")
    report = (out / "report.md").read_text()
    assert "empty 1, identical 1" in report and "Sample pairs" in report
    assert str(tmp_path) not in json.dumps(found) + report


def test_a_changed_setting_redoes_only_the_steps_after_it(custom, prepare, tmp_path):
    out = tmp_path / "out"
    prepare(*custom, "--out", out)
    _, said, _ = prepare(
        *custom, "--out", out, "--set", "preparations.modern.subword.sentencepiece.vocab_size=380"
    )
    later = {
        f"{step}/{split}" for step in ("encode", "binarise") for split in ("train", "valid", "test")
    }
    assert worked(said) == {"subword", "dictionary", *later}
    _, said, _ = prepare(
        *custom,
        "--out",
        out,
        "--set",
        "preparations.modern.subword.sentencepiece.vocab_size=380",
        "--set",
        "preparations.modern.clean.filters.max_chars=40",
    )
    assert {"clean/train", "duplicates/train", "text/train", "subword"} <= worked(said)
    assert not {step for step in worked(said) if step.startswith("extract")}
    fresh = tmp_path / "fresh"
    prepare(
        *custom,
        "--out",
        fresh,
        "--set",
        "preparations.modern.subword.sentencepiece.vocab_size=380",
        "--set",
        "preparations.modern.clean.filters.max_chars=40",
    )
    assert snapshot(out) == snapshot(fresh)


def test_a_changed_test_set_redoes_only_the_test_set(custom, prepare, tmp_path, corpus, write):
    out = tmp_path / "out"
    prepare(*custom, "--out", out)
    before = (corpus / "test.en").stat()
    lines = (corpus / "test.en").read_text().split("\n")[:-1]
    write(corpus / "test.en", lines[::-1])  # of the same size, and of the same time
    os.utime(corpus / "test.en", ns=(before.st_atime_ns, before.st_mtime_ns))
    _, said, _ = prepare(*custom, "--out", out)
    steps = {f"{s}/test" for s in ("extract", "clean", "text", "encode", "binarise")}
    # the training text is compared with the new one, and where it stays as it was, so does the rest
    assert worked(said) == {*steps, "text/train"}


def test_a_deleted_output_is_made_again(custom, prepare, tmp_path):
    out = tmp_path / "out"
    prepare(*custom, "--out", out)
    before = snapshot(out)
    (out / "data-bin" / "train.en-de.en.bin").unlink()
    (out / "text" / "valid.de").unlink()
    _, said, _ = prepare(*custom, "--out", out)
    assert worked(said) == {"text/valid", "binarise/train"}
    assert snapshot(out) == before


def test_another_preparation_in_the_same_folder_leaves_nothing_of_the_first(
    custom, prepare, tmp_path
):
    pytest.importorskip("subword_nmt", reason="the extra [data] is not installed")
    prepare(*custom, "--out", tmp_path / "one", "--shards", "2")
    prepare(*custom, "--out", tmp_path / "one", "--preparation", "published")
    prepare(*custom, "--out", tmp_path / "two", "--preparation", "published")
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_training_data_is_dealt_out_to_shards(custom, prepare, tmp_path):
    from fairseq.data import Dictionary, indexed_dataset

    prepare(*custom, "--out", tmp_path / "one")
    prepare(*custom, "--out", tmp_path / "three", "--shards", "3", "--set", "part_lines=37")
    rows = indexed_dataset.MMapIndexedDataset(str(tmp_path / "one/data-bin/train.en-de.de"))
    for shard in range(3):
        folder = tmp_path / "three" / f"data-bin{shard}"
        dealt = indexed_dataset.MMapIndexedDataset(str(folder / "train.en-de.de"))
        expected = [rows[i].tolist() for i in range(shard, len(rows), 3)]
        assert [dealt[i].tolist() for i in range(len(dealt))] == expected
        assert len(Dictionary.load(str(folder / "dict.de.txt"))) % 8 == 0
    assert (tmp_path / "three/data-bin0/valid.en-de.de.idx").exists()
    assert not (tmp_path / "three/data-bin1/valid.en-de.de.idx").exists()
    assert "data-bin0:data-bin1:data-bin2" in manifest(tmp_path / "three")["train"]


def test_fairseq_trains_on_shards_as_on_one_folder(custom, prepare, tmp_path):
    """Each epoch sees the next shard; all of them together are the training text."""
    from fairseq.tasks.translation import TranslationConfig, TranslationTask

    prepare(*custom, "--out", tmp_path / "out", "--shards", "2")
    folders = ":".join(str(tmp_path / "out" / f"data-bin{shard}") for shard in range(2))
    config = TranslationConfig(data=folders, source_lang="en", target_lang="de")
    config.train_subset, config.dataset_impl = "train", None
    task = TranslationTask.setup_task(config)
    sizes = []
    for epoch in (1, 2, 3):
        task.load_dataset("train", epoch=epoch)
        sizes.append(len(task.dataset("train")))
    task.load_dataset("valid", epoch=2)
    assert sizes == [150, 150, 150] and len(task.dataset("valid")) == 40


def test_slices_make_up_the_training_text_and_share_a_vocabulary(
    custom, prepare, tmp_path, corpus, write
):
    for code in ("en", "de"):
        lines = (corpus / f"train.{code}").read_text().split("\n")[:-1]
        write(corpus / f"train.{code}", lines + lines[::3])
    prepare(*custom, "--out", tmp_path / "all")
    slices = []
    for number in range(3):
        status, _, error = prepare(
            *custom,
            "--out",
            tmp_path / f"{number}",
            "--slice",
            f"{number}/3",
            "--vocab-from",
            tmp_path / "all",
        )
        assert (status, error) == (0, "")
        slices.append((tmp_path / f"{number}" / "text" / "train.de").read_text().splitlines())
        assert (tmp_path / f"{number}/data-bin/dict.de.txt").read_bytes() == (
            tmp_path / "all/data-bin/dict.de.txt"
        ).read_bytes()
    whole = (tmp_path / "all" / "text" / "train.de").read_text().splitlines()
    assert sorted(sum(slices, [])) == sorted(whole) and len(whole) == 300
    assert all(60 < len(part) < 140 for part in slices)


def test_a_test_set_alone_stops_after_its_text(custom, prepare, tmp_path):
    out = tmp_path / "out"
    status, _, _ = prepare(*custom, "--out", out, "--splits", "test")
    assert status == 0 and not manifest(out)["complete"]
    assert set(snapshot(out)) == {"manifest.json", "report.md", "text/test.de", "text/test.en"}


def test_a_test_set_uses_the_vocabulary_of_another_folder(custom, prepare, tmp_path):
    prepare(*custom, "--out", tmp_path / "all")
    status, _, _ = prepare(
        *custom, "--out", tmp_path / "test", "--splits", "test", "--vocab-from", tmp_path / "all"
    )
    assert status == 0
    whole, alone = snapshot(tmp_path / "all"), snapshot(tmp_path / "test")
    for name in (
        "data-bin/test.en-de.de.bin",
        "data-bin/test.en-de.en.idx",
        "data-bin/dict.en.txt",
        "subword/sentencepiece.bpe.model",
    ):
        assert alone[name] == whole[name]
    assert "data-bin/train.en-de.de.bin" not in alone


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--splits", "tset"], "custom has no split 'tset'; choose from train, valid, test"),
        (
            ["--preparation", "old"],
            "custom has no preparation 'old'; choose one of modern, published",
        ),
        (["--shards", "0"], "--shards is 0, must be at least 1"),
        (["--workers", "0"], "--workers is 0, must be at least 1"),
        (["--timeout", "0"], "--timeout is 0.0, must be more than 0"),
        (["--vocab-from", "/nowhere"], "--vocab-from /nowhere holds no completely prepared corpus"),
        (["--slice", "2/2"], "--slice '2/2' must look like I/N with I from 0 to N-1"),
        (["--set", "part_lines"], "--set 'part_lines' must look like KEY=VALUE"),
        (["--set", "part_lines=["], "--set 'part_lines=[': '[' is not a YAML value"),
        (["--set", "part_lines=ten"], "part_lines must be int, got 'ten'"),
        (["--set", "prat_lines=10"], "unknown setting prat_lines; known are name, title"),
        (["--set", "title.x=10"], "--set title.x: title is not a group of settings"),
        (["--target-lang", "en"], "source and target are both 'en'"),
        (
            ["--test", "a", "b", "c"],
            "--test takes two aligned files, or one table or translation memory",
        ),
        (["--test", "/nowhere/a", "/nowhere/b"], "there is no file /nowhere/a"),
    ],
)
def test_a_bad_request_is_answered_in_one_sentence(custom, prepare, tmp_path, change, message):
    status, _, error = prepare(*custom, "--out", tmp_path / "out", *change)
    assert status == 1
    assert error.startswith("prepare.py: error: ") and error.count("\n") == 1
    assert message in error


def test_an_unknown_recipe_lists_the_known_ones(prepare, tmp_path):
    status, _, error = prepare("wmt99", "--out", tmp_path / "out")
    assert status == 1 and "no recipe 'wmt99'; choose one of custom, iwslt14-de-en" in error


def test_options_of_custom_are_refused_elsewhere(prepare, tmp_path):
    status, _, error = prepare("wmt14-en-de", "--out", tmp_path, "--train", "x")
    assert status == 1 and "belong to the recipe custom, not to wmt14-en-de" in error


def test_vocabulary_of_another_preparation_is_refused(custom, prepare, tmp_path):
    prepare(*custom, "--out", tmp_path / "all")
    status, _, error = prepare(
        *custom,
        "--out",
        tmp_path / "b",
        "--vocab-from",
        tmp_path / "all",
        "--preparation",
        "published",
    )
    assert status == 1 and "has no subword/bpe.codes; it was prepared another way (modern)" in error


def test_a_folder_with_other_things_is_left_alone(custom, prepare, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    status, _, error = prepare(*custom, "--out", tmp_path)
    assert status == 1 and "is not empty and not a prepared corpus; choose another --out" in error
    assert not (tmp_path / "work").exists()


def test_a_file_in_place_of_the_folder_is_left_alone(custom, prepare, tmp_path):
    (tmp_path / "out").write_text("x")
    status, _, error = prepare(*custom, "--out", tmp_path / "out")
    assert status == 1 and "out is a file, not a folder; choose another --out" in error


def test_a_folder_of_another_recipe_is_left_alone(custom, prepare, tmp_path, corpus):
    prepare(*custom, "--out", tmp_path / "out", "--splits", "test")
    status, _, error = prepare("wmt14-en-de", "--from-local", corpus, "--out", tmp_path / "out")
    assert status == 1 and "holds the recipe custom; choose another --out" in error


def test_two_processes_do_not_work_in_one_folder(custom, prepare, tmp_path):
    import fcntl

    prepare(*custom, "--out", tmp_path / "out", "--splits", "test")
    with open(tmp_path / "out" / "work" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, _, error = prepare(*custom, "--out", tmp_path / "out")
    assert status == 1 and "another process is preparing" in error


def test_missing_files_are_listed_with_the_splits_that_are_there(prepare, tmp_path, write):
    for code in ("en", "de"):
        write(tmp_path / "mine" / f"newstest2014-deen.{code}.gz", ["A line."])
    status, _, error = prepare(
        "wmt14-en-de",
        "--from-local",
        tmp_path / "mine",
        "--out",
        tmp_path / "out",
        "--workers",
        "1",
    )
    assert status == 1
    assert "lacks what wmt14-en-de needs for train: training-parallel-europarl-v7.tgz" in error
    assert "add --splits test to prepare only them" in error


def test_different_files_of_one_name_are_refused(prepare, tmp_path, write):
    write(tmp_path / "mine" / "a" / "newstest2014-deen.en", ["A line."])
    write(tmp_path / "mine" / "b" / "newstest2014-deen.en", ["Another line."])
    status, _, error = prepare(
        "wmt14-en-de",
        "--from-local",
        tmp_path / "mine",
        "--out",
        tmp_path / "out",
        "--splits",
        "test",
    )
    assert status == 1 and "holds different files called newstest2014-deen.en: a/newst" in error


def test_a_local_file_with_a_wrong_checksum_is_refused_unless_accepted(prepare, tmp_path, write):
    for code in ("en", "de"):
        write(tmp_path / "mine" / f"test_2016_flickr.{code}.gz", ["A line."])
    arguments = [
        "multi30k-en-de",
        "--from-local",
        tmp_path / "mine",
        "--splits",
        "test",
        "--workers",
        "1",
        "--out",
        tmp_path / "out",
    ]
    status, _, error = prepare(*arguments)
    assert status == 1 and "test_2016_flickr.en.gz has the sha256" in error
    assert "accept it with --any-checksum" in error
    assert prepare(*arguments, "--any-checksum")[0] == 0
    files = manifest(tmp_path / "out")["files"]
    assert files["test_2016_flickr.en.gz"]["checked"] == "sha256 differs"


def test_a_local_web_page_in_place_of_an_archive_is_refused(prepare, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "de-en.tgz").write_text("<!DOCTYPE html><title>404</title>")
    status, _, error = prepare(
        "iwslt14-de-en", "--from-local", tmp_path / "mine", "--out", tmp_path / "out"
    )
    assert status == 1 and "de-en.tgz is a web page instead of data" in error


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-20], "cut off or damaged"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-9]), "they are not aligned"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-4] + b"\xff\xfe\n"), "is not UTF-8"),
        (
            lambda data: gzip.compress(gzip.decompress(data).replace(b" ", b"\r", 1)),
            "carriage return",
        ),
        (lambda data: gzip.compress(b"x" * 10_000_000), "longer than 1,000,000 bytes"),
    ],
)
def test_spoilt_training_text_is_refused_and_leaves_no_text(
    custom, prepare, tmp_path, corpus, write, spoil, message
):
    lines = (corpus / "train.de").read_text().split("\n")[:-1]
    path = write(corpus / "spoilt.de.gz", [*lines[:-1], "bad", "bad"][: len(lines)])
    path.write_bytes(spoil(path.read_bytes()))
    custom[custom.index(str(corpus / "train.de"))] = str(path)
    status, _, error = prepare(*custom, "--out", tmp_path / "out")
    assert status == 1 and message in error and "spoilt.de.gz" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "text" / "train.de").exists()


def test_a_split_without_lines_is_refused(custom, prepare, tmp_path):
    status, _, error = prepare(
        *custom, "--out", tmp_path / "out", "--set", "preparations.modern.clean.filters.max_chars=1"
    )
    assert status == 1 and "train has no lines: all were left out" in error
    assert not (tmp_path / "out" / "text" / "train.de").exists()


def command(custom, out, workers="2"):
    return [
        sys.executable,
        str(ROOT / "data-prep" / "prepare.py"),
        *custom,
        "--workers",
        workers,
        "--out",
        str(out),
    ]


def test_no_space_left_is_one_sentence_and_nothing_is_half_written(custom, tmp_path):
    """A limit on the size of files stands in for a full disk."""

    def limit():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))

    done = subprocess.run(
        command(custom, tmp_path / "out", "1"),
        preexec_fn=limit,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"prepare.py: error: no space left for {tmp_path / 'out'}")
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "out").rglob("*.part*"))


def test_killed_at_any_moment_it_continues_to_the_same_bytes(custom, prepare, tmp_path):
    prepare(*custom, "--out", tmp_path / "whole", "--set", "part_lines=20")
    expected = snapshot(tmp_path / "whole")
    out, draw, kills = tmp_path / "killed", random.Random(1), 0
    for _ in range(4):
        process = subprocess.Popen(
            [*command(custom, out), "--set", "part_lines=20"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(timeout=draw.uniform(0.5, 3.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _alive(out):
        time.sleep(0.1)
    assert kills and not _alive(out), "workers outlive the killed process"
    prepare(*custom, "--out", out, "--set", "part_lines=20")
    assert snapshot(out) == expected


def _alive(out):
    """Processes that still have the folder on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(out).encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_another_version_of_a_library_redoes_the_steps_that_use_it(
    custom, prepare, tmp_path, monkeypatch
):
    from dataprep import manifest as module

    out = tmp_path / "out"
    prepare(*custom, "--out", out)
    real = module.versions

    def newer(*names):
        return {n: "99" if n == "sentencepiece" else v for n, v in real(*names).items()}

    monkeypatch.setattr(module, "versions", newer)
    _, said, _ = prepare(*custom, "--out", out)
    assert "subword" in worked(said) and not {s for s in worked(said) if s.startswith("clean")}
    assert manifest(out)["versions"]["sentencepiece"] == "99"


@pytest.fixture()
def small(prepare, tmp_path):
    """Prepare files of one's own into `tmp_path/out`; returns status, output and errors."""

    def run(*arguments, pair=("en", "de")):
        size = "preparations.modern.subword.sentencepiece.vocab_size=400"
        languages = ["--source-lang", pair[0], "--target-lang", pair[1]]
        rest = ["--out", tmp_path / "out", "--workers", "1", "--set", size]
        return prepare("custom", *languages, *arguments, *rest)

    return run


def text_of(tmp_path, name):
    return (tmp_path / "out" / "text" / name).read_bytes().decode().split("\n")[:-1]


def test_targets_of_test_sets_stay_as_they_are_and_sources_become_what_translate_reads(
    small, tmp_path, corpus, write
):
    from tsa_mt.characters import decode_references, tidy

    odd = [" a &amp;  b\u00adc\u200d ", "two\u2028x\x00", "R&amp;D &copy; ½\u00a0m²"]
    write(corpus / "odd.en", odd)
    (corpus / "odd.de").write_bytes("\ufeff".encode() + "".join(f"{o}\r\n" for o in odd).encode())
    train, test = ([corpus / f"{s}.{c}" for c in ("en", "de")] for s in ("train", "odd"))
    assert small("--train", *train, "--valid", *test, "--test", *test)[0] == 0
    for split in ("valid", "test"):
        assert text_of(tmp_path, f"{split}.de") == odd
        assert text_of(tmp_path, f"{split}.en") == [tidy(decode_references(o)) for o in odd]
    report = (tmp_path / "out" / "report.md").read_text()
    assert "note: valid has only 3 lines; scores of fewer than 500 sentences" in report
    assert "normalisation `nmt_nfkc`: pieces spell a normalised text" in report


def test_sentences_of_the_test_set_leave_the_training_text(small, tmp_path, corpus, write):
    for code in ("en", "de"):
        held = (corpus / f"valid.{code}").read_text().splitlines()
        train = (corpus / f"train.{code}").read_text().splitlines()
        extra = held[:3] if code == "en" else [*held[:2], "ganz anders"]
        write(corpus / f"train.{code}", [*train, *extra])
    files = [[corpus / f"{s}.{c}" for c in ("en", "de")] for s in ("train", "valid")]
    status, said, _ = small("--train", *files[0], "--valid", *files[1])
    assert status == 0
    assert not set(text_of(tmp_path, "train.en")) & set(text_of(tmp_path, "valid.en"))
    note = "sentence of a validation or test set (valid both 2, valid source 1) are left out"
    assert note in said and note in (tmp_path / "out" / "report.md").read_text()
    steps = {s["step"]: s for s in manifest(tmp_path / "out")["splits"]["train"]["steps"]}
    assert steps["held out elsewhere"]["dropped"] == {"valid both": 2, "valid source": 1}
    assert (steps["held out elsewhere"]["in"], steps["held out elsewhere"]["out"]) == (303, 300)


def test_one_table_in_a_pipe_is_read_and_held_out_of(small, tmp_path, corpus):
    import threading

    sides = [(corpus / f"train.{code}").read_text().splitlines() for code in ("en", "de")]
    rows = "".join(f"{n}\t{a}\t{b}\n" for n, (a, b) in enumerate(zip(*sides, strict=True)))
    os.mkfifo(tmp_path / "pipe")

    def run():
        feed = threading.Thread(
            target=(tmp_path / "pipe").write_bytes, args=[gzip.compress(rows.encode(), mtime=0)]
        )
        feed.start()
        done = small("--train", tmp_path / "pipe", "--columns", "2", "3")
        feed.join()
        return done

    status, said, error = run()
    assert (status, error) == (0, "")
    assert 15 < len(text_of(tmp_path, "valid.en")) < 50  # a tenth, for 500 would be too many
    assert text_of(tmp_path, "train.de")[0] in sides[1]
    assert list(manifest(tmp_path / "out")["files"]) == ["train.both (pipe)"]
    assert "nothing to do" in run()[1]


def test_two_files_of_different_kinds_are_refused(small, tmp_path, corpus, write):
    sgm = write(corpus / "t.sgm", ["<srcset><seg id='1'>x</seg></srcset>"])
    status, _, error = small("--train", sgm, corpus / "train.de")
    assert status == 1 and "corpus/t.sgm and corpus/train.de are of different kinds: SGML" in error
    status, _, error = small("--train", sgm)
    assert (
        status == 1 and "corpus/t.sgm holds one side in SGML; give the file of the other" in error
    )


def test_a_file_that_is_no_text_is_one_sentence(small, tmp_path, corpus):
    (corpus / "x.en").write_bytes(b"PK\x03\x04 and so on")
    status, _, error = small("--train", corpus / "x.en", corpus / "train.de")
    assert status == 1 and "corpus/x.en is a zip archive or an office document; unpack it" in error
    assert error.count("\n") == 1


def test_the_report_names_the_tokenisers_that_a_script_needs(small, tmp_path, write):
    chinese = [f"我喜欢在公园里散步{n}因为那里很安静" for n in range(60)]
    files = [
        write(tmp_path / "t.en", [f"I like walks in the park {n}" for n in range(60)]),
        write(tmp_path / "t.zh", chinese),
    ]
    status, said, _ = small(
        "--train", *files, "--test", *files, "--splits", "test", pair=("en", "zh")
    )
    assert (
        status == 0 and "note: score translations into zh with tsa-mt score --tokenize zh" in said
    )
    assert "Moses" not in said
    _, said, _ = small(
        "--test", *files, "--splits", "test", "--preparation", "published", pair=("en", "zh")
    )
    assert (
        "note: Moses' tokeniser, which this preparation uses, does not find the words of zh" in said
    )
