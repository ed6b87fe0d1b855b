"""A training that is asked to stop saves and leaves, and goes on as if nothing had happened."""

import json
import signal
import subprocess

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.trainer import Trainer

from tsa_mt import stopping

SEVENTY_FIVE = stopping.RESUMABLE


def record(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (Trainer, "train_step", 2),  # within an epoch
        (Trainer, "train_step", 7),  # within a later one, whose sentences are grouped as before
        (Trainer, "train_step", 3),  # where a save and a validation are due
        (Trainer, "train_step", 5),  # at the end of an epoch
        (Trainer, "valid_step", 2),  # in a validation, which is given up
        (checkpoint_utils, "torch_persistent_save", 1),  # in a save
        (Trainer, "begin_epoch", 2),  # between two epochs
    ],
)
def test_a_stopped_training_goes_on_to_the_same_bits(
    owner, name, call, train, signal_at, tmp_path, same, monkeypatch
):
    with monkeypatch.context():
        signal_at(owner, name, call)
        assert train(tmp_path) == SEVENTY_FIVE
    monkeypatch.undo()
    assert record(tmp_path)["status"] == "interrupted"
    assert record(tmp_path)["reason"] == "SIGTERM"
    assert train(tmp_path) == 0
    same(tmp_path)
    ends = [session["ended"] for session in record(tmp_path)["sessions"]]
    assert ends == ["interrupted: SIGTERM", "finished"]


@pytest.fixture
def interruptible():
    """SIGINT as a terminal leaves it: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT])
def test_sigusr1_and_sigint_stop_as_sigterm_does(number, train, signal_at, tmp_path, capfd):
    signal_at(Trainer, "train_step", 2, number)
    assert train(tmp_path) == SEVENTY_FIVE
    name = signal.Signals(number).name
    said = capfd.readouterr().err
    assert f"{name}: ending the update, saving and leaving; once more ends at once\n" in said
    assert "Traceback" not in said
    saved = checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "checkpoint_last.pt"))
    assert saved["optimizer_history"][-1]["num_updates"] == 2


def test_the_last_update_of_all_is_not_followed_by_another(train, tmp_path, same):
    assert train(tmp_path) == 0
    assert train(tmp_path) == 0
    same(tmp_path)
    assert record(tmp_path)["status"] == "finished"


def test_a_training_stopped_in_its_last_validation_finishes_without_an_update(
    train, signal_at, tmp_path, same, monkeypatch
):
    signal_at(Trainer, "train_step", 10)
    assert train(tmp_path) == SEVENTY_FIVE
    monkeypatch.undo()
    assert train(tmp_path) == 0
    same(tmp_path)
    assert record(tmp_path)["status"] == "finished"
    assert [session["updates"] for session in record(tmp_path)["sessions"]] == [10, 0]


def test_nothing_is_saved_where_nothing_shall_be(train, signal_at, tmp_path):
    signal_at(Trainer, "train_step", 2)
    assert train(tmp_path, "--no-save") == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


def test_the_signals_are_given_back_after_the_training(train, tmp_path):
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    train(tmp_path, updates=1)
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


def test_a_second_signal_ends_the_process_at_once(monkeypatch):
    sent = []
    request = stopping.Request()
    request.listen()
    try:
        monkeypatch.setattr(stopping.os, "kill", lambda pid, number: sent.append(number))
        request._take(signal.SIGTERM, None)
        request._take(signal.SIGTERM, None)  # a launcher passed the same request on
        assert sent == []
        monkeypatch.setattr(stopping, "SAME_SECONDS", 0.0)
        request._take(signal.SIGINT, None)
        assert sent == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        request.forget()


def test_a_signal_that_is_ignored_from_the_start_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    request = stopping.Request()
    try:
        request.listen()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        request.forget()
        signal.signal(signal.SIGINT, before)


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, index):
        return index


def test_a_loading_process_outlives_a_signal_that_is_meant_for_the_training():
    loader = iter(stopping.SteadyLoader(Numbers(), num_workers=1, batch_size=1))
    assert next(loader).tolist() == [0]
    (worker,) = loader._workers
    for name in ("TERM", "USR1", "INT"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    assert [next(loader).item() for _ in range(20)] == list(range(1, 21))
    worker.terminate()  # by its parent
    worker.join(timeout=30)
    assert worker.exitcode == 0


def test_a_validation_that_is_due_is_recorded_once(tmp_path):
    from tsa_mt.evaluate.run_record import Recorder, Tracked

    tracked = Tracked("valid", "loss")
    recorder = Recorder(tmp_path, {}, tracked, 0)
    recorder.begin_epoch(1)
    recorder.log("train_inner", {"loss": 2.0}, 4)
    recorder.log("valid", {"loss": 3.0}, 4)
    again = Recorder(tmp_path, {}, tracked, 4, validation_is_due=True)
    again.log("valid", {"loss": 3.5}, 4)
    rows = (tmp_path / "curves.csv").read_text().splitlines()[1:]
    assert rows == ["4,1,train_inner,loss,2", "4,0,valid,loss,3.5"]


def test_the_figures_of_an_epoch_that_a_kill_left_out_are_completed_once(tmp_path):
    from tsa_mt.evaluate.run_record import Recorder, Tracked

    recorder = Recorder(tmp_path, {}, Tracked("valid", "loss"), 4)
    recorder.begin_epoch(1)
    for _ in range(2):
        recorder.complete_epoch({"loss": 2.5})
    assert (tmp_path / "curves.csv").read_text().splitlines()[1:] == ["4,1,train,loss,2.5"]


def test_a_session_that_was_killed_is_told_by_the_next_start(train, tmp_path):
    train(tmp_path, updates=3)
    found = record(tmp_path)
    found["status"], found["sessions"][0]["ended"] = "running", None
    (tmp_path / "run.json").write_text(json.dumps(found))
    train(tmp_path, updates=4)
    assert [session["ended"] for session in record(tmp_path)["sessions"]] == ["killed", "finished"]
