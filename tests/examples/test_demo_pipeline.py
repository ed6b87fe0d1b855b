"""The demo's pipeline: its parts, and the whole of it at toy size through the console scripts."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
MODULES = ("grammar", "lexicon", "frames", "sentences", "corpus", "commands", "run")
TOY = "--train 500 --valid 20 --test 12 --updates 12 --vocabulary 400".split()
pytest.importorskip("babel", reason="the demo corpus needs Babel, the extra [demo]")
pytest.importorskip("ctranslate2", reason="the demo converts to CTranslate2, the extra [deploy]")


@pytest.fixture(scope="module")
def demo():
    """The modules of the demo, imported as its own scripts import them."""
    path = list(sys.path)
    sys.path.insert(0, str(DEMO))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path[:] = path
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole demo, small enough to be over soon and too small to learn anything."""
    out = tmp_path_factory.mktemp("demo") / "out"
    done = subprocess.run(
        [sys.executable, str(DEMO / "run.py"), "--out", str(out), *TOY],
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return SimpleNamespace(out=out, printed=done.stdout, error=done.stderr)


def test_the_demo_leaves_one_best_checkpoint_and_a_model(finished):
    best = [path.relative_to(finished.out) for path in finished.out.rglob("checkpoint_best.pt")]
    assert best == [Path("checkpoints/checkpoint_best.pt")]
    exported = {path.name for path in (finished.out / "export").iterdir()}
    assert {"model.pt", "dict.en.txt", "dict.de.txt", "sentencepiece.bpe.model"} <= exported


def test_the_demo_shows_every_step_and_how_the_training_goes(finished):
    assert re.findall(r"^\[(\d)/6\]", finished.printed, re.MULTILINE) == list("123456")
    assert re.search(r"update +10/12 +loss +\d+\.\d+ +leaves agree on +\d+ %", finished.printed)
    assert re.search(r"test sources that occur in train +0 of +12\n", finished.printed)
    assert finished.error == ""


def test_the_summary_has_trees_scores_sizes_times_and_translations(finished):
    text = (finished.out / "summary.txt").read_text(encoding="utf-8")
    assert text in finished.printed
    for expected in (
        r"BLEU on 12 test sentences \(nrefs:1\|case:mixed\|.*version:",
        r"leader +\d+\.\d\d\n",
        r"mean of the 4 leaves +\d+\.\d\d\n",
        r"ensemble of the leaves +\d+\.\d\d\n",
        r"exported leader +\d+\.\d\d +in stock fairseq, no plugin\n",
        r"tree, for training +[\d,]+ parameters +\d+\.\d MB\n",
        r"train the tree +\d+:\d\d\n",
    ):
        assert re.search(expected, text), expected
    # So little training leaves a model that never ends: both stop it at the same length.
    assert re.search(r"CTranslate2 \(3 of 3 as in fairseq", text)
    assert len(re.findall(r"^  -> ", text, re.MULTILINE)) == 3


def test_the_exported_leader_is_smaller_than_the_tree_and_scores_the_same(finished):
    figures = json.loads((finished.out / "summary.json").read_text(encoding="utf-8"))
    assert figures["bleu"]["exported"] == figures["bleu"]["leader"]
    assert set(figures["bleu"]) == {"leader", "leaf1", "leaf2", "leaf3", "ensemble", "exported"}
    text = (finished.out / "summary.txt").read_text(encoding="utf-8")
    counts = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) parameters", text)]
    assert counts[1] < counts[0]


def test_the_test_set_was_translated_to_its_last_sentence(finished):
    log = (finished.out / "logs" / "leader.log").read_text(encoding="utf-8")
    assert len(re.findall(r"^D-\d+\t", log, re.MULTILINE)) == 12


def test_a_folder_of_something_else_is_refused(demo, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    done = subprocess.run(
        [sys.executable, str(DEMO / "run.py"), "--out", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"run.py: error: {tmp_path} exists and was not made by this demo; "
        f"move it away or choose another --out\n"
    )
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_second_run_starts_afresh_in_its_own_folder(demo, tmp_path):
    out = tmp_path / "out"
    demo.run.prepare_folder(out)
    (out / "checkpoints").mkdir()
    (out / "checkpoints" / "checkpoint_best.pt").write_text("old")
    demo.run.prepare_folder(out)
    assert [path.name for path in out.iterdir()] == [demo.run.MARKER]


def test_a_failed_command_is_told_in_one_sentence(demo, tmp_path):
    failing = tmp_path / "translator"
    failing.write_text("print('loading'); raise SystemExit('no model in sight')")
    with pytest.raises(
        demo.commands.CommandError,
        match=r"translator failed with exit status 1 \(no model in sight\); .*fail\.log",
    ):
        demo.commands.run([sys.executable, failing], tmp_path / "fail.log")


def test_a_failed_command_stops_the_others(demo, tmp_path):
    slow, failing = tmp_path / "slow", tmp_path / "failing"
    slow.write_text("import time; time.sleep(60)")
    failing.write_text("raise SystemExit(3)")
    jobs = [([sys.executable, path], tmp_path / f"{path.name}.log") for path in (slow, failing)]
    with pytest.raises(demo.commands.CommandError, match="failing failed with exit status 3"):
        list(demo.commands.run_all(jobs, threads=1, at_once=2))


def test_a_missing_script_says_what_to_do(demo):
    with pytest.raises(demo.commands.CommandError, match="no-such-script is not .*: make .venv"):
        demo.commands.script("no-such-script")


def test_the_monitor_estimates_the_time_left(demo):
    monitor = demo.commands.TrainingMonitor(updates=50)
    figures = '{"epoch": 1, "loss": "%s", "agreement": "57.4", "num_updates": "%d"}'
    record = f"2026 | INFO | train_inner | {figures}"
    assert monitor.line("2026 | INFO | begin training", 0) is None
    assert monitor.line(record % ("9.5", 10), 100.0) == (
        "  update   10/50  loss  9.500  leaves agree on  57 %"
    )
    assert monitor.line(record % ("8", 20), 130.0).endswith("57 %  1:30 left")
    valid = '2026 | INFO | valid | {"epoch": 1, "valid_loss": "3.25", "valid_accuracy": "61.26"}'
    assert monitor.line(valid, 140.0) == (
        "  validation: loss 3.250, 61.3 % of the next pieces right"
    )
