"""Every training leaves a record and curves: through any log format, kill, resume and failure."""

import importlib
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_training
import torch
from tiny_training import STOCK, TREE

from tsa_mt.evaluate import recording, run_facts, run_record
from tsa_mt.evaluate.run_folder import read_run

OKDDIP = [*TREE, "okddip", "--tree", "1(1,1,1)"]
PROGRAM = Path(tiny_training.__file__)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_training.write_data(tmp_path_factory.mktemp("data-bin"))


@pytest.fixture(scope="module")
def train(data):
    """fairseq-train into a folder; the run that it left."""
    from fairseq import checkpoint_utils

    def function(folder, *more):
        vars(checkpoint_utils.save_checkpoint).pop("best", None)
        tiny_training.train(data, folder, *more)
        return read_run(folder)

    return function


@pytest.fixture(scope="module")
def okddip(train, tmp_path_factory):
    """Ten updates in two epochs, with BLEU of the leader and of all leaves."""
    bleu = ("--eval-bleu", "--eval-bleu-args", '{"beam": 2, "max_len_b": 8}', "--kd-eval-ensemble")
    folder = tmp_path_factory.mktemp("okddip")
    return train(folder, *OKDDIP, "--max-update", "10", *bleu, "--seed", "7")


def test_the_record_says_what_was_trained_on_what_with_what(okddip, data, root):
    record = okddip.record
    assert record["status"] == "finished"
    assert (record["task"], record["arch"]) == ("translation", "tree_transformer_tiny")
    assert record["method"]["objective"] == "okddip"
    assert record["method"]["tree"] == "1(1,1,1)"
    assert record["method"]["leaves"] == 3
    assert record["method"]["options"]["temperature"] == 3.0  # unset: the published value
    assert record["seed"] == record["options"]["common.seed"] == 7
    assert record["options"]["optimization.lr"] == [0.003]
    assert record["options"]["model.decoder_layers"] == 2
    assert record["data"]["path"] == str(data)
    assert record["data"]["files"] == 2 + 2 * 2 * 2
    assert record["versions"]["torch"] and record["hardware"]["device"] == "cpu"
    assert record["arithmetic"]["name"] == "float32"
    assert record["arithmetic"]["figures"]["float32"] > 0
    assert (record["commit"] is None) == (not (root / ".git").exists())


def test_the_record_counts_what_the_training_cost(okddip):
    record = okddip.record
    assert record["updates"] == 10 and record["epochs"] >= 2
    (session,) = record["sessions"]
    assert session["updates"] == 10 and session["from_update"] == 0
    assert record["seconds"] >= session["train_seconds"] > 0
    assert record["peak_memory_bytes"] > 2**26
    assert record["tokens_per_second"] == pytest.approx(
        session["timed_tokens"] / session["train_seconds"]
    )
    wpb = [point.value for point in okddip.series("train_inner", "wpb")]
    assert session["tokens"] == pytest.approx(sum(wpb) * 2, rel=0.01)
    assert record["training_flops"] == pytest.approx(
        session["operations"] / session["counted_tokens"] * session["tokens"]
    )
    assert record["parameters"]["leader"] < record["parameters"]["training"]


def test_the_best_validation_is_the_one_that_chose_the_checkpoint(okddip):
    best = okddip.record["best"]
    points = {p.update: p.value for p in okddip.series("valid", "loss")}
    assert best["value"] == min(points.values()) == points[best["update"]]
    saved = torch.load(okddip.path / best["checkpoint"], weights_only=True)
    assert saved["optimizer_history"][-1]["num_updates"] == best["update"]
    assert saved["extra_state"]["best"] == best["value"]


def test_curves_have_every_leaf_the_gates_and_what_only_the_trainer_knows(okddip):
    assert [p.update for p in okddip.series("train_inner", "loss")] == [2, 4, 6, 8, 10]
    common = {"loss", "nll_b0", "nll_b1", "nll_b2", "loss_peers", "agreement", "kl_leaves", "ramp"}
    common |= {"headroom", "nll_ensemble", "effective_classes"}
    inner = common | {"gnorm", "wps", "lr", "pressure_b0", "pressure_b1", "pressure_b2"}
    assert inner <= set(okddip.metrics("train_inner"))
    assert common | {"bleu", "bleu_ensemble"} <= set(okddip.metrics("valid"))
    assert "num_updates" not in okddip.metrics("valid")
    for row in (1, 2):
        names = [f"gate_attention_{row}_b{leaf}" for leaf in (1, 2)]
        for split in ("train_inner", "valid"):
            curves = [okddip.series(split, name) for name in names]
            assert curves[0] and all(
                sum(p.value for p in at_once) == pytest.approx(1, abs=2e-4)
                for at_once in zip(*curves, strict=True)
            )


def test_the_operations_are_those_that_pytorch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    from tsa_mt.evaluate.operations import OperationCounter

    layer = torch.nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
    found = []
    for mode in (OperationCounter(), FlopCounterMode(display=False)):
        with mode:
            layer(torch.ones(2, 5, 16)).sum().backward()
        found.append(mode.total if found == [] else mode.get_total_flops())
    assert found[0] == found[1] > 0


@pytest.mark.parametrize("shown", ["simple", "json", "tqdm"])
def test_any_log_format_leaves_the_same_curves(shown, train, tmp_path, okddip):
    run = train(tmp_path, *OKDDIP, "--max-update", "2", "--seed", "7", "--log-format", shown)
    here, there = (
        {p.metric: p.value for p in r.curves if (p.update, p.split) == (2, "train_inner")}
        for r in (run, okddip)
    )
    assert list(here) == list(there)
    assert here["nll_b1"] == there["nll_b1"]


def test_a_stock_architecture_leaves_a_record_too(train, tmp_path):
    record = train(tmp_path, *STOCK).record
    assert record["arch"] == "transformer_tiny"
    assert record["method"] == {
        "objective": None,
        "tree": None,
        "leaves": 1,
        "options": {},
        "criterion": "label_smoothed_cross_entropy",
    }
    assert record["parameters"]["leader"] == record["parameters"]["training"] > 0
    assert record["training_flops"] > 0 and record["best"]["metric"] == "loss"


def test_a_resumed_run_goes_on_and_repeats_no_figure(train, tmp_path):
    more = (*OKDDIP, "--kd-rampup-updates", "4", "--save-interval-updates", "3")
    train(tmp_path, *more, "--max-update", "5")
    (tmp_path / "checkpoint_1_3.pt").rename(tmp_path / "checkpoint_last.pt")
    with open(tmp_path / "curves.csv", "a") as file:
        file.write("5,1,train_inner,lo")  # killed while it wrote
    run = train(tmp_path, *more, "--max-update", "8")
    updates = [point.update for point in run.series("train_inner", "loss")]
    assert updates == [2, 4, 6, 8]
    assert [entry["from_update"] for entry in run.record["sessions"]] == [0, 3]
    assert [entry["updates"] for entry in run.record["sessions"]] == [5, 5]
    assert run.record["updates"] == 8
    seconds = [entry["seconds"] for entry in run.record["sessions"]]
    assert run.record["seconds"] == pytest.approx(sum(seconds), abs=0.01)
    keys = [(p.update, p.split, p.metric) for p in run.curves if p.split == "train_inner"]
    assert len(keys) == len(set(keys))
    counted = [entry["counted_tokens"] for entry in run.record["sessions"]]
    tokens = [entry["tokens"] for entry in run.record["sessions"]]
    assert counted == tokens  # the first eight updates are counted, in one session or in several


def test_a_new_run_in_a_folder_starts_anew(train, tmp_path):
    train(tmp_path, *STOCK, "--max-update", "6")
    (tmp_path / "checkpoint_last.pt").unlink()
    run = train(tmp_path, *STOCK, "--max-update", "2")
    assert max(point.update for point in run.curves) == 2
    assert len(run.record["sessions"]) == 1


def test_an_error_in_recording_is_one_warning_and_training_goes_on(
    train, tmp_path, monkeypatch, caplog
):
    def broken(self, *figures):
        raise OSError("No space left on device")

    monkeypatch.setattr(run_record.Recorder, "log", broken)
    with caplog.at_level(logging.WARNING, logger=recording.__name__):
        train(tmp_path, *STOCK)
    assert (tmp_path / "checkpoint_last.pt").exists()
    said = [r.getMessage() for r in caplog.records if r.name == recording.__name__]
    assert said == [
        "the run is not recorded any further, training goes on: OSError: No space left on device"
    ]


def test_a_record_that_cannot_be_begun_is_one_warning(train, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(run_facts, "versions", lambda: 1 / 0)
    with pytest.raises(FileNotFoundError, match="has no run.json"):
        train(tmp_path, *STOCK)
    assert (tmp_path / "checkpoint_last.pt").exists()
    assert caplog.text.count("the run is not recorded any further") == 1


def test_nothing_is_left_where_nothing_shall_be_saved(data, tmp_path):
    tiny_training.train(data, tmp_path, *STOCK, "--no-save")
    assert not list(tmp_path.glob("*.json")) and not list(tmp_path.glob("*.csv"))


def test_validating_a_checkpoint_changes_no_record(train, tmp_path, data, monkeypatch):
    train(tmp_path, *STOCK)
    before = {p: p.read_bytes() for p in (tmp_path / "run.json", tmp_path / "curves.csv")}
    validate = importlib.import_module("fairseq_cli.validate")
    arguments = f"{data} --task translation --path {tmp_path}/checkpoint_last.pt --cpu"
    command = f"fairseq-validate {arguments} --batch-size 4 --num-workers 0 --log-format none"
    monkeypatch.setattr(sys, "argv", command.split())
    validate.cli_main()
    assert all(path.read_bytes() == content for path, content in before.items())


# --- the parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("whole", "sampled", "content"),
    [
        (2**30, 10, "whole files"),
        (0, 10, "sizes, first and last MiB"),
        (0, 0, "names and sizes"),
    ],
)
def test_large_data_are_known_by_samples_and_the_record_says_so(
    whole, sampled, content, tmp_path, monkeypatch
):
    monkeypatch.setattr(run_facts, "WHOLE_BYTES", whole)
    monkeypatch.setattr(run_facts, "SAMPLED_FILES", sampled)
    for name in ("dict.en.txt", "train.en-de.en.bin", "valid.en-de.en.bin", "test.en-de.en.bin"):
        (tmp_path / name).write_bytes(name.encode() * 10)
    first = run_facts.data_manifest(str(tmp_path), ["train", "valid"])
    assert (first["files"], first["content"]) == (3, content)
    (tmp_path / "test.en-de.en.bin").write_bytes(b"other")
    assert run_facts.data_manifest(str(tmp_path), ["train", "valid"]) == first
    (tmp_path / "train.en-de.en.bin").write_bytes(b"other")
    changed = run_facts.data_manifest(str(tmp_path), ["train", "valid"])
    assert changed["sha256"] != first["sha256"]


def test_of_a_folder_of_images_every_file_counts(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "1.png").write_bytes(b"1")
    (tmp_path / "batches.meta").write_bytes(b"2")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes(b"a run that is saved among its data")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    found = run_facts.data_manifest(str(tmp_path), ["train", "valid"])
    assert (found["files"], found["bytes"]) == (2, 2)
    assert run_facts.data_manifest(None, ["train"])["sha256"] is None


def test_figures_that_json_does_not_have_are_kept_as_words():
    values = {"inf": float("inf"), "path": Path("a"), "list": (1, None, True)}
    assert run_facts.json_value(values) == {"inf": "inf", "path": "a", "list": [1, None, True]}


def test_tensorboard_shows_every_leaf(train, data, tmp_path):
    tensorboard = pytest.importorskip("tensorboardX")
    assert tensorboard
    run = train(tmp_path / "run", *OKDDIP, "--tensorboard-logdir", tmp_path / "board")
    progress = importlib.import_module("fairseq.logging.progress_bar")
    progress._close_writers()
    progress._tensorboard_writers.clear()
    for split in ("train_inner", "valid"):
        found = scalars(tmp_path / "board" / split)
        assert {"nll_b0", "nll_b1", "nll_b2", "gate_attention_1_b2", "loss_peers"} <= set(found)
        curve = [(p.update, p.value) for p in run.series(split, "nll_b1")]
        assert found["nll_b1"] == [(step, pytest.approx(value)) for step, value in curve]


def scalars(folder):
    """What TensorBoard's files in a folder hold: (step, value) by name."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in folder.glob("events.*"):
        content, place = path.read_bytes(), 0
        while place < len(content):  # length, its checksum, event, its checksum
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            place += 16 + length
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


# --- other processes ----------------------------------------------------------------------------


def start(arguments, root):
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def test_a_killed_run_can_be_read_and_goes_on(data, root, tmp_path):
    more = (*STOCK, "--save-interval-updates", "5", "--disable-validation")
    endless = tiny_training.arguments(data, tmp_path, *more, "--max-update", "100000")
    process = start(endless, root)
    deadline = time.monotonic() + 300
    while not (tmp_path / "checkpoint_last.pt").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()[-3000:]
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = read_run(tmp_path)
    assert killed.record["status"] == "running"
    saved = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    update = saved["optimizer_history"][-1]["num_updates"]
    tiny_training.train(data, tmp_path, *more, "--max-update", update + 4)
    run = read_run(tmp_path)
    assert run.record["status"] == "finished" and run.record["updates"] == update + 4
    assert [entry["from_update"] for entry in run.record["sessions"]] == [0, update]
    updates = [point.update for point in run.series("train_inner", "loss")]
    assert updates == list(range(2, update + 5, 2))


ENDING = """
from tsa_mt import plugin

plugin.register()
from tsa_mt.evaluate import recording

class Closing:
    def close(self):
        print("closed")

recording._current = Closing()
"""


def test_the_end_of_the_process_closes_the_record(python):
    assert python("-c", ENDING).stdout == "closed\n"


def test_a_run_that_ends_within_an_epoch_was_interrupted(tmp_path):
    recorder = run_record.Recorder(tmp_path, {}, run_record.Tracked("valid", "loss"), 0)
    recorder.begin_epoch(1)
    recorder.close()
    assert read_run(tmp_path).record["status"] == "interrupted"
    recorder.begin_epoch(1)
    recorder.end_epoch(over=False)
    assert read_run(tmp_path).record["status"] == "running"
    recorder.close()
    assert read_run(tmp_path).record["status"] == "finished"


def test_of_two_processes_the_first_records_the_tokens_of_both(data, root, tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = (
        *("--distributed-world-size", "2", "--distributed-no-spawn", "--device-id", "0"),
        *("--distributed-init-method", f"tcp://127.0.0.1:{port}", "--disable-validation"),
        *("--ddp-backend", "legacy_ddp", "--max-update", "3", "--log-interval", "1"),
    )
    processes = [
        start(
            tiny_training.arguments(
                data, tmp_path, *OKDDIP, *shared, "--distributed-rank", str(rank)
            ),
            root,
        )
        for rank in (0, 1)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    run = read_run(tmp_path)
    assert run.record["hardware"]["workers"] == 2
    (session,) = run.record["sessions"]
    assert session["tokens"] == sum(p.value for p in run.series("train_inner", "wpb"))
    assert session["counted_tokens"] < session["tokens"]
    assert len(run.series("train_inner", "gate_attention_1_b2")) == 3
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "finished"


def test_what_the_figures_mean_is_said_once(caplog):
    run = object.__new__(recording.Recording)
    run._said = set()
    with caplog.at_level("WARNING"):
        for pressure in (0.001, 0.002):
            run.remark({"pressure_b0": pressure, "pressure_b1": pressure})
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith(
        "Distillation does nothing: its gradient is at most 0.001 of the task"
    )
