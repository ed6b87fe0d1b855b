"""What the tests of saving, stopping and NaN share: small trainings in this process."""

import os
import signal
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "evaluate")]  # for trained and tiny_training

import tiny_training  # noqa: E402
from trained import assert_equal, curves, state  # noqa: E402

KEEP = "--max-tokens 30 --save-interval-updates 3 --update-freq 2 --log-interval 2".split()
"""Two epochs of five updates, with saves in the middle of each."""
OKDDIP = [*tiny_training.TREE, "okddip", "--tree", "1(1,1,1)"]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return tiny_training.write_data(tmp_path_factory.mktemp("data-bin"))


@pytest.fixture
def train(data):
    """fairseq-train into a folder, in this process; returns its exit status."""
    from fairseq import checkpoint_utils

    def function(folder, *more, updates=10):
        vars(checkpoint_utils.save_checkpoint).pop("best", None)
        options = (*OKDDIP, *KEEP, "--max-update", updates, *more)
        try:
            tiny_training.train(data, folder, *options)
        except SystemExit as error:
            return error.code
        return 0

    return function


@pytest.fixture(scope="session")
def uninterrupted(data, tmp_path_factory):
    """A training of ten updates that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    tiny_training.train(data, folder, *OKDDIP, *KEEP, "--max-update", "10")
    return folder


@pytest.fixture
def signal_at(monkeypatch):
    """Sends this process a signal in the middle of a call: ``signal_at(Trainer, "step", 3)``."""

    def function(owner, name, call, number=signal.SIGTERM):
        original, calls = getattr(owner, name), [0]

        def method(*args, **kwargs):
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), number)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, method)

    return function


@pytest.fixture
def same(uninterrupted):
    """Asserts that a training left what the undisturbed one did, to the last bit."""

    def function(folder, other=uninterrupted):
        for name in ("checkpoint_last.pt", "checkpoint_best.pt"):
            ours, theirs = state(folder / name), state(other / name)
            for part in ("model", "last_optimizer_state"):
                assert_equal(ours[part], theirs[part], part)
            assert ours["optimizer_history"][-1] == theirs["optimizer_history"][-1]
            for each in (ours, theirs):
                each["extra_state"]["tsa_mt"].pop("epoch_figures")  # times among them
            for part in ("train_iterator", "best", "val_loss", "tsa_mt"):
                assert ours["extra_state"][part] == theirs["extra_state"][part], part
        assert curves(folder) == curves(other)

    return function
