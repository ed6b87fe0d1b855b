"""Of two workers one gets the signal, and both save once and leave."""

import json
import multiprocessing
import os
import signal
import socket
import sys
import traceback

import pytest
import tiny_training
import torch

FORK = multiprocessing.get_context("fork")
UPDATES = 6


def worker(rank, port, data, folder, number):
    """A worker; rank 1 gets a signal in its third update."""
    from fairseq.trainer import Trainer
    from fairseq_cli import train

    from tsa_mt import plugin

    plugin.register()
    torch.set_num_threads(1)
    step = Trainer.train_step

    def signalled(self, *args, **kwargs):
        if number and rank == 1 and self.get_num_updates() == 2:
            os.kill(os.getpid(), number)
        return step(self, *args, **kwargs)

    Trainer.train_step = signalled
    options = (
        *tiny_training.TREE,
        *("tsa", "--tree", "1(1,1)", "--max-update", UPDATES, "--ddp-backend", "legacy_ddp"),
        *("--distributed-world-size", "2", "--distributed-rank", rank, "--distributed-no-spawn"),
        *("--distributed-init-method", f"tcp://127.0.0.1:{port}", "--device-id", "0"),
    )
    sys.argv = ["fairseq-train", *tiny_training.arguments(data, folder, *options)]
    try:
        train.cli_main()
    except Exception:
        traceback.print_exc()
        os._exit(1)


def train_in_two(data, folder, number=0):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workers = [
        FORK.Process(target=worker, args=(rank, port, data, folder, number)) for rank in (0, 1)
    ]
    for each in workers:
        each.start()
    for each in workers:
        each.join(timeout=240)
    return [each.exitcode for each in workers]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed")
def test_one_worker_that_is_asked_stops_all_and_all_go_on(data, tmp_path):
    assert train_in_two(data, tmp_path, signal.SIGTERM) == [75, 75]
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["status"], record["reason"], record["updates"]) == ("interrupted", "SIGTERM", 3)
    assert train_in_two(data, tmp_path) == [0, 0]
    record = json.loads((tmp_path / "run.json").read_text())
    assert [session["updates"] for session in record["sessions"]] == [3, UPDATES - 3]
