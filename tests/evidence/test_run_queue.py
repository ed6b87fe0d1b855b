"""benchmarks/evidence: which run is next, what stands in its way, what a record keeps."""

import gzip
import importlib
import json
import os
import sys
import time
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "evidence"
MODULES = ("conditions", "corpus", "runs", "training", "run_queue", "tables")
HERE = {"commit": "abc1234", "cpu": "a CPU", "torch": "2.13.0", "threads": "1"}


@pytest.fixture
def evidence(monkeypatch):
    """Gives the modules of the folder by name, without their traces in ``sys``."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def place(evidence, tmp_path):
    """Empty folders."""
    return evidence("training").Place(tmp_path / "data", tmp_path / "work", tmp_path / "records")


@pytest.fixture
def listed(evidence, tmp_path):
    """Reads a list of runs made of the given systems, all in one block of seeds 1 and 2."""

    def read(**systems):
        entry = {"flags": "--tree 4", "hours": 0.1}
        block = {"title": "a block", "question": 3, "sentences": 50, "vocabulary": 90}
        block |= {"seeds": [1, 2], "systems": {k: {**entry, **v} for k, v in systems.items()}}
        path = tmp_path / "runs.yaml"
        path.write_text(yaml.safe_dump({"flags": "--arch tree", "blocks": [block]}))
        return evidence("runs").read_runs(path)

    return read


def write_record(place, name, bleu=20.0, leaf=0, **conditions):
    """Writes what a finished run leaves, as far as the queue looks at it."""
    folder = place.records / name
    (folder / "results").mkdir(parents=True, exist_ok=True)
    branch = f".branch{leaf}" if leaf else ""
    scores = {"scores": [{"name": "BLEU", "score": bleu}]}
    (folder / "results" / f"average10{branch}.val.json").write_text(json.dumps(scores))
    (folder / "record.json").write_text(json.dumps({**HERE, **conditions}))


def next_name(evidence, runs, place, mix=False, hours=9.0):
    run = evidence("run_queue").next_run(runs, place, HERE, mix, hours)
    return run and run.name


def test_the_shipped_list_can_be_read_and_its_gates_and_predecessors_name_systems_of_it(evidence):
    runs = evidence("runs").read_runs()
    systems = {run.system for run in runs}
    named = {name for run in runs if run.gate for name in (run.gate.better, run.gate.than)}
    assert named | {run.continues for run in runs if run.continues} <= systems
    assert {run.question for run in runs} >= {3}
    assert all(run.hours > 0 for run in runs)


def test_all_first_seeds_come_before_all_second_ones(listed):
    assert [run.name for run in listed(a={}, b={})] == ["a-s1", "b-s1", "a-s2", "b-s2"]


def test_flags_are_those_of_all_runs_and_then_its_own(listed):
    assert listed(a={"flags": "--lr 1"})[0].flags == ("--arch", "tree", "--lr", "1")


def test_an_entry_that_nobody_reads_is_refused(listed):
    with pytest.raises(ValueError, match="a has the entry sead; known are command, continues"):
        listed(a={"sead": 3})


def test_a_name_that_is_there_twice_is_refused(listed):
    with pytest.raises(ValueError, match="has a-s1 twice; give every run its own name"):
        listed(a={"seeds": [1, 1]})


def test_a_recorded_run_is_not_taken_again(evidence, listed, place):
    runs = listed(a={})
    assert next_name(evidence, runs, place) == "a-s1"
    write_record(place, "a-s1")
    assert next_name(evidence, runs, place) == "a-s2"
    write_record(place, "a-s2")
    assert next_name(evidence, runs, place) is None


def test_a_run_that_does_not_fit_in_the_time_left_gives_way_to_one_that_does(
    evidence, listed, place
):
    runs = listed(long={"hours": 2.0}, short={"hours": 0.5})
    assert next_name(evidence, runs, place, hours=1.0) == "short-s1"


@pytest.mark.parametrize(("bleu", "expected"), [(20.4, None), (20.6, "b-s1")])
def test_a_gate_opens_when_the_recorded_difference_is_large_enough(
    evidence, listed, place, bleu, expected
):
    gate = {"better": "a", "than": "c", "by": 0.5, "leaf": -1}
    runs = listed(b={"gate": gate, "seeds": [1]})
    assert next_name(evidence, runs, place) is None
    reason = evidence("run_queue").waits_for(runs[0], place, HERE, False)
    assert "must be 0.5 validation BLEU above c: not recorded yet" in reason
    write_record(place, "a-s1", bleu=bleu, leaf=-1)
    write_record(place, "c-s1", bleu=20.0)
    assert next_name(evidence, runs, place) == expected


def test_a_run_that_goes_on_from_another_waits_for_its_record_and_needs_its_checkpoints(
    evidence, listed, place
):
    run = listed(b={"continues": "a", "seeds": [1]})[0]
    waits_for = evidence("run_queue").waits_for
    assert waits_for(run, place, HERE, False) == "goes on from a-s1, which is not recorded"
    write_record(place, "a-s1")
    assert "whose checkpoints are not here" in waits_for(run, place, HERE, False)
    place.run("a-s1").mkdir(parents=True)
    assert waits_for(run, place, HERE, False) == ""


def test_a_run_that_needs_what_the_toolkit_lacks_waits(evidence, listed, place):
    run = listed(a={"missing": "objective simcut"})[0]
    assert evidence("run_queue").waits_for(run, place, HERE, False) == (
        "the toolkit lacks objective simcut"
    )


def test_a_run_begun_at_another_commit_is_not_gone_on_with(evidence, listed, place):
    run = listed(a={})[0]
    queue = evidence("run_queue")
    begun = queue.note(place, run, "begun")
    begun.parent.mkdir(parents=True)
    begun.write_text(json.dumps({**HERE, "commit": "old"}))
    reason = queue.waits_for(run, place, HERE, True)
    assert reason == "a-s1 is of other conditions: commit 'old' against 'abc1234'"


def test_seeds_of_another_machine_are_added_to_a_system_only_when_mixing_is_allowed(
    evidence, listed, place
):
    write_record(place, "a-s1", cpu="another CPU")
    runs = listed(a={})
    assert next_name(evidence, runs, place) is None
    assert next_name(evidence, runs, place, mix=True) == "a-s2"


def test_a_run_that_failed_is_noted_and_left_out(evidence, listed, place, tmp_path, monkeypatch):
    queue = evidence("run_queue")

    def perform(run, *_):
        if run.name == "a-s1":
            raise RuntimeError("fairseq_cli.train ended with 1")
        write_record(place, run.name)

    monkeypatch.setattr(queue, "perform", perform)
    listed(a={})
    arguments = ["--runs", str(tmp_path / "runs.yaml"), "--data", str(tmp_path)]
    args = queue.parser().parse_args(arguments)
    queue.work_off(args, place, HERE)
    assert (place.records / "a-s2" / "record.json").is_file()
    states = list(queue.states(queue.wanted(args), place, HERE, False))
    assert "fairseq_cli.train ended with 1" in states[0]
    assert states[1].endswith("recorded")


def test_a_command_that_fails_is_quoted_with_its_log(evidence, tmp_path):
    runner = evidence("run_queue").CommandRunner(float("inf"))
    script = "print('no such corpus'); raise SystemExit(3)"
    with pytest.raises(RuntimeError, match=r"ended with 3, see .*log: no such corpus"):
        runner([sys.executable, "-c", script], tmp_path / "log")


def test_the_deadline_ends_a_command(evidence, tmp_path):
    queue = evidence("run_queue")
    start = time.monotonic()
    with pytest.raises(queue.Stopped, match="the time is over"):
        queue.CommandRunner(time.time())(["sleep", "50"], tmp_path / "log")
    assert time.monotonic() - start < 20


def test_a_second_queue_is_kept_out_of_the_work_folder(evidence, tmp_path):
    queue = evidence("run_queue")
    with queue.alone(tmp_path), pytest.raises(ValueError, match="another queue works in"):
        with queue.alone(tmp_path):
            pass


def test_a_checkout_with_changes_is_refused(evidence, monkeypatch):
    monkeypatch.setattr("tsa_mt.evaluate.run_facts.commit", lambda: "abc1234+")
    with pytest.raises(ValueError, match="needs a commit without changes"):
        evidence("conditions").conditions()


def test_the_cpu_is_named_by_family_and_by_what_decides_its_speed(evidence, tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(
        "vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel name\t: AMD EPYC\n"
        "flags\t: fpu avx512f avx512_bf16\n\nvendor_id\t: none\n"
    )
    assert evidence("conditions").cpu(path) == "AMD EPYC, family 26 (Zen 5), AVX-512, bfloat16"


# --- samples, translations, records -------------------------------------------------------------


def test_small_samples_are_part_of_large_ones_and_never_change(evidence):
    sample = evidence("corpus").sample
    assert sample(29000, 10000)[:2000] == sample(29000, 2000)
    assert sample(29000, 3) == [6848, 1094, 22875]
    with pytest.raises(ValueError, match="sample of 29,001 sentences is asked for; take 1 to 29"):
        sample(29000, 29001)


def test_missing_data_are_named_with_what_to_do(evidence, place):
    with pytest.raises(FileNotFoundError, match=r"train.en.gz is missing; name the folder"):
        evidence("corpus").raw_lines(place.data, "train", "en")


@pytest.fixture
def small(evidence, monkeypatch, tmp_path):
    """A decoded corpus of five sentences; pieces are joined without a subword model."""
    from tsa_mt.translate.subwords import SentencePiece

    training, corpus = evidence("training"), evidence("corpus")
    sizes = dict.fromkeys(corpus.TEST_SETS, 1) | {corpus.VALID: 2}
    monkeypatch.setattr(training, "LINES", sizes)
    monkeypatch.setattr(SentencePiece, "__init__", lambda self, path: None)
    raw = tmp_path / "corpus" / "raw"
    raw.mkdir(parents=True)
    (raw / "decoded.de").write_text("eins\nzwei\nein Hund läuft\nvier\nfünf\n")
    return tmp_path / "corpus"


def test_byte_pieces_are_joined_and_the_first_hypothesis_counts(evidence, small, tmp_path):
    log = tmp_path / "log"
    pieces = ["▁eins", "▁zwei", "▁ein ▁Hund ▁l <0xC3> <0xA4> uft", "▁vier", "▁fünf"]
    lines = [f"H-{n}\t-0.{n}\t{text}\n" for n, text in enumerate(pieces)]
    log.write_text("".join([*reversed(lines), "H-0\t-9\t▁null\n"]), encoding="utf-8")
    found = evidence("training").hypotheses(log, small)
    assert found[0] == ("-0.000", "eins")
    assert found[2] == ("-0.200", "ein Hund läuft")


def test_a_missing_sentence_is_refused(evidence, small, tmp_path):
    log = tmp_path / "log"
    log.write_text("H-0\t-0.1\t▁eins\nH-2\t-0.1\t▁drei\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has 2 of 5 sentences; decode again"):
        evidence("training").hypotheses(log, small)


def test_test_sets_are_scored_alone_and_pooled_and_the_validation_set_is_not_pooled(
    evidence, small, tmp_path
):
    found = [("-1", text) for text in ("eins", "zwei", "ein Hund läuft", "vier", "sechs")]
    evidence("training").save_results("average10", found, small, tmp_path / "results")
    files = {path.name for path in (tmp_path / "results").iterdir()}
    assert {"average10.val.json", "average10.test_2017_mscoco.log.gz"} <= files
    pooled = json.loads((tmp_path / "results" / "average10.pooled.json").read_text())
    assert pooled["sentences"] == 3
    assert "tok:13a" in pooled["scores"][0]["signature"]
    assert pooled["references"] == ["references/pooled.de"]
    text = gzip.decompress((tmp_path / "results" / "average10.pooled.log.gz").read_bytes())
    assert text.decode() == "D-0\t-1\tein Hund läuft\nD-1\t-1\tvier\nD-2\t-1\tsechs\n"


def test_a_record_names_its_conditions_and_no_folder_of_the_machine(
    evidence, listed, place, tmp_path
):
    training = evidence("training")
    run = listed(a={"flags": "--lr 1"})[0]
    folder = place.run(run.name)
    (folder / "results").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"save_dir": f"{folder}"}))
    (folder / "curves.csv").write_text("update\n")
    training.record(run, folder, place, HERE)
    record = json.loads((place.records / "a-s1" / "record.json").read_text())
    assert {key: record[key] for key in HERE} == HERE
    assert record["command"] == "fairseq-train --arch tree --lr 1 --seed 1"
    assert (place.records / "a-s1" / "run.json").read_text() == '{"save_dir": "WORK/runs/a-s1"}'


def test_a_run_goes_on_from_a_copy_of_its_predecessor(evidence, place):
    training = evidence("training")
    before = place.run("a-s1")
    before.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="not trained to its end"):
        training._take_over(before, place.run("b-s1"))
    for name in ("checkpoint_last.pt", "run.json", "trained", "checkpoint_average10.pt"):
        (before / name).touch()
    training._take_over(before, place.run("b-s1"))
    assert {p.name for p in place.run("b-s1").iterdir()} == {"checkpoint_last.pt", "run.json"}


def test_time_is_added_up_over_all_starts(evidence, tmp_path):
    training = evidence("training")
    for _ in range(2):
        training._timed(tmp_path, lambda: time.sleep(0.05))
    assert 0.1 <= json.loads((tmp_path / "seconds.json").read_text())["wall"] < 5
    assert os.listdir(tmp_path) == ["seconds.json"]


def test_a_queue_without_data_says_so_in_one_sentence(evidence, monkeypatch, tmp_path, capsys):
    queue = evidence("run_queue")
    monkeypatch.setattr(queue, "conditions", lambda: HERE)
    monkeypatch.setattr(queue, "settle", lambda core: None)
    monkeypatch.setattr(queue.signal, "signal", lambda number, handler: None)
    assert queue.main(["--data", str(tmp_path / "none"), "--work", str(tmp_path / "work")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("run_queue.py: error: there are no data in")
    assert message.endswith("give --data or TSA_MT_DATA\n")
