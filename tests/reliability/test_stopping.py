"""A training that is asked to stop saves and leaves, and goes on as if nothing had happened."""

import json
import signal

import pytest
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
