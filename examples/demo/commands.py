"""Running the console scripts of fairseq and showing how far they are."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Sequence

ROOT = Path(__file__).resolve().parents[2]
USER_DIR = ROOT / "tsa_mt"
TSA_MT = (sys.executable, "-m", "tsa_mt.cli")
_RECORD = re.compile(r"\| train_inner \| (\{.*\})")
_VALID = re.compile(r"\| valid \| (\{.*\})")


class CommandError(Exception):
    """A command failed or is missing; the message is one sentence for the person."""


def script(name: str) -> str:
    """The path of a console script: the one beside this Python, or else the one on PATH.

    Raises:
        CommandError: There is none.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise CommandError(f"{name} is not installed beside {sys.executable}; run: make .venv")
    return found


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """Threads for a command that runs alone: ``OMP_NUM_THREADS`` if set, else all cores up to 4.

    More than four do not help a model of the demo's size.
    """
    return int(os.environ.get("OMP_NUM_THREADS") or min(cores(), 4))


def environment(threads: int) -> Dict[str, str]:
    """The environment of a command that computes with ``threads`` threads."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}


def run(command: Sequence[object], log: Path, threads: int = 1) -> None:
    """Run a command to its end; what it prints goes to ``log``.

    Raises:
        CommandError: It failed; the message names the log and quotes its last line.
    """
    list(run_all([(command, log)], threads, 1))


def run_all(jobs: Iterable[tuple], threads: int, at_once: int) -> Iterator[Path]:
    """Run commands side by side; gives the log of each as soon as it has ended.

    Args:
        jobs: Pairs of a command and the file for what it prints.
        threads: Threads that each command may use.
        at_once: How many commands may run at the same time.

    Raises:
        CommandError: One failed; those still running are stopped.
    """
    waiting, running = list(jobs), []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                command, log = waiting.pop(0)
                log.parent.mkdir(parents=True, exist_ok=True)
                with open(log, "wb") as file:
                    running.append((_start(command, file, threads), command, log))
            time.sleep(0.1)
            for job in [job for job in running if job[0].poll() is not None]:
                running.remove(job)
                _check(*job)
                yield job[2]
    finally:
        for process, _, _ in running:
            _stop(process)


def _start(command: Sequence[object], output: object, threads: int) -> subprocess.Popen:
    words = [str(word) for word in command]
    env = environment(threads)
    return subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=env)


def _stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()


def _check(process: subprocess.Popen, command: Sequence[object], log: Path) -> None:
    if process.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().split("\n")
        name = next(Path(str(word)).name for word in command if "python" not in str(word))
        raise CommandError(
            f"{name} failed with exit status {process.returncode} ({lines[-1].strip()}); "
            f"everything it printed is in {log}"
        )


def clock(seconds: float) -> str:
    """Minutes and seconds, e.g. `4:07`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class TrainingMonitor:
    """Turns the log of `fairseq-train --log-format json` into short lines.

    Args:
        updates: How many updates the training makes.
    """

    def __init__(self, updates: int):
        """Start the clock; the estimate counts from the first record."""
        self.updates = updates
        self.first: Optional[List[float]] = None

    def line(self, text: str, now: float) -> Optional[str]:
        """What to show for one line of the log, ``None`` for nothing.

        Args:
            text: The line.
            now: The time in seconds, on any clock that goes forward.
        """
        for pattern, show in ((_RECORD, self._training), (_VALID, self._validation)):
            match = pattern.search(text)
            if match:
                return show(json.loads(match[1]), now)
        return None

    def _training(self, record: dict, now: float) -> str:
        done = int(record["num_updates"])
        if self.first is None:
            self.first = [done, now]
        text = f"  update {done:4}/{self.updates}  loss {float(record['loss']):6.3f}"
        if "agreement" in record:
            text += f"  leaves agree on {float(record['agreement']):3.0f} %"
        if done > self.first[0]:
            left = (now - self.first[1]) / (done - self.first[0]) * (self.updates - done)
            text += f"  {clock(left)} left"
        return text

    def _validation(self, record: dict, now: float) -> str:
        loss, accuracy = float(record["valid_loss"]), float(record.get("valid_accuracy", "nan"))
        return f"  validation: loss {loss:.3f}, {accuracy:.1f} % of the next pieces right"


def run_training(command: Sequence[object], log: Path, threads: int, updates: int) -> None:
    """Run fairseq-train and show its progress while it runs.

    Args:
        command: The command; it has to log as JSON.
        log: File for everything it prints.
        threads: Threads it may use.
        updates: How many updates it makes.

    Raises:
        CommandError: It failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    process, monitor = _start(command, subprocess.PIPE, threads), TrainingMonitor(updates)
    try:
        with open(log, "w", encoding="utf-8") as file:
            for raw in process.stdout:
                text = raw.decode("utf-8", errors="replace")
                file.write(text)
                shown = monitor.line(text, time.monotonic())
                if shown:
                    print(shown, flush=True)
        process.wait()
    finally:
        _stop(process)
    _check(process, command, log)
