"""Kills trainings at random moments and compares what they leave with undisturbed ones.

    python tests/reliability/soak.py [--kills 20] [--seed 1] [--case NAME]

Every training runs in a process of its own, which SIGKILL, SIGTERM or SIGUSR1 ends at a moment
drawn anew for every start. It is started again until it was killed as often as asked
for, and once more to its end. Parameters, the optimizer, the best checkpoint and every figure that
is no time (BLEU among them) must then be those of a training that nobody disturbed, to the last
bit. Prints one row per case, and where the kills hit. ``make soak`` runs it.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [
    str(HERE.parents[1]),
    *(str(HERE.parent / n) for n in ("evaluate", "vision")),
    str(HERE),
]

import tiny_training  # noqa: E402
import torch  # noqa: E402
from image_data import FLAGS, write_cifar10  # noqa: E402
from trained import assert_equal, curves, state  # noqa: E402

FORK = multiprocessing.get_context("fork")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
MOST_UPDATES = 5
"""That a process does before it is killed."""
PHASES = ("start", "update", "validation", "saving", "between")
KEEP = "--update-freq 2 --num-workers 2 --save-interval-updates 7 --keep-interval-updates 2".split()
BLEU = ("--eval-bleu", "--eval-bleu-args", '{"beam": 2, "max_len_b": 8}')
TEXT = {
    "text, okddip (trains gates)": ("okddip", "--tree", "1(1,1,1)"),
    "text, tsa": ("tsa", "--tree", "0(1(1,1),1(1,1))"),
    "text, pcl (averages, trains fusion)": ("pcl", "--tree", "1(1,1)"),
}
IMAGES = {"images, tsa": ("--kd-objective", "tsa", "--tree", "6(3,3)")}


def text_command(data, objective):
    """The options of a text training."""
    more = ("--max-tokens", "30", "--max-update", "60", "--patience", "9", "--kd-eval-ensemble")
    options = (*tiny_training.TREE, *objective, *KEEP, *BLEU, *more)
    return lambda folder: tiny_training.arguments(data, folder, *options)


def image_command(data, objective):
    """The options of an image training."""
    options = (*FLAGS, *KEEP, *objective, "--max-epoch", "12", "--no-epoch-checkpoints")
    return lambda folder: [
        str(data),
        "--arch",
        "tree_resnet20",
        "--save-dir",
        str(folder),
        *options,
    ]


def train(command, folder, phase):
    """The life of one process."""
    from fairseq import checkpoint_utils, options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.trainer import Trainer
    from fairseq_cli import train as program

    sink = os.open(os.devnull, os.O_WRONLY)
    if "SOAK_VERBOSE" not in os.environ:
        os.dup2(sink, 1)
        os.dup2(sink, 2)

    def told(owner, name, here):
        original = getattr(owner, name)

        def function(*args, **kwargs):
            before, phase[0] = phase[0], PHASES.index(here)
            try:
                return original(*args, **kwargs)
            finally:
                phase[0] = PHASES.index("between") if here == "update" else before
                phase[1] += here == "update"

        setattr(owner, name, function)

    told(Trainer, "train_step", "update")
    told(Trainer, "valid_step", "validation")
    told(checkpoint_utils, "save_checkpoint", "saving")
    parsed = options.parse_args_and_arch(options.get_training_parser(), command(folder))
    program.main(convert_namespace_to_omegaconf(parsed))


def start(command, folder):
    """A process that trains, and what it is at."""
    phase = FORK.Array("i", 2)  # where it is, and how many updates it has done
    process = FORK.Process(target=train, args=(command, folder, phase))
    process.start()
    return process, phase


def wait_for_updates(process, phase, updates):
    """Returns when a process has begun to train and done some updates, or has ended."""
    while process.is_alive() and (not phase[0] or phase[1] < updates):
        time.sleep(0.002)


def disturb(command, folder, kills, seconds, draw):
    """Trains with kills; where they hit, and how many starts it took.

    Args:
        seconds: That an update takes, validation and saving included.
    """
    hits, starts = Counter(), 0
    while True:
        process, phase = start(command, folder)
        starts += 1
        if hits.total() < kills:
            if draw.random() < 0.9:
                wait_for_updates(process, phase, draw.randint(0, MOST_UPDATES))
            process.join(draw.uniform(0, 2) * seconds)
            if process.is_alive():
                hits[PHASES[phase[0]]] += 1
                os.kill(process.pid, draw.choice(SIGNALS))
        process.join()
        if process.exitcode == 0:
            return hits, starts
        assert process.exitcode in (75, *(-n for n in SIGNALS)), f"ended with {process.exitcode}"


def differences(ours, theirs):
    """What is not the same, in words."""
    found = []
    for name in ("checkpoint_last.pt", "checkpoint_best.pt"):
        one, other = state(ours / name), state(theirs / name)
        for part in ("model", "last_optimizer_state"):
            try:
                assert_equal(one[part], other[part], f"{name}/{part}")
            except AssertionError as error:
                found.append(str(error).splitlines()[0])
        for part in ("train_iterator", "best", "val_loss"):
            if one["extra_state"][part] != other["extra_state"][part]:
                found.append(f"{name}/{part}")
    if curves(ours) != curves(theirs):
        rows = {tuple(row) for row in curves(ours)} ^ {tuple(row) for row in curves(theirs)}
        found.append(f"curves: {sorted(rows)[:4]}")
    return found


def run(name, command, kills, draw, work):
    """One row of the table; whether nothing differs."""
    process, phase = start(command, work / "whole")
    wait_for_updates(process, phase, 0)
    began = time.monotonic()
    process.join()
    assert process.exitcode == 0, f"{name}: the undisturbed training ended with {process.exitcode}"
    seconds = (time.monotonic() - began) / phase[1]
    hits, starts = disturb(command, work / "killed", kills, seconds, draw)
    found = differences(work / "killed", work / "whole")
    where = ", ".join(f"{hits[phase]} {phase}" for phase in PHASES if hits[phase])
    print(
        f"| {name} | {hits.total()} ({where}) | {starts} | {'; '.join(found) or 'the same bits'} |",
        flush=True,
    )
    return not found


def main():
    """Runs the cases; the status is 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of every case (default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: 1)")
    parser.add_argument("--case", help="only cases whose name holds this")
    args = parser.parse_args()
    from tsa_mt import plugin

    plugin.register()
    torch.set_num_threads(1)
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "text").mkdir()
        text, images = tiny_training.write_data(work / "text"), write_cifar10(work / "images")
        cases = {name: text_command(text, objective) for name, objective in TEXT.items()}
        cases |= {name: image_command(images, objective) for name, objective in IMAGES.items()}
        print("| training | kills | starts | compared with an undisturbed one |\n|---|---|---|---|")
        good = [
            run(name, command, args.kills, draw, work / str(number))
            for number, (name, command) in enumerate(cases.items())
            if not args.case or args.case in name
        ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
