"""Takes the next run of runs.yaml on one core at low priority, and the next, until none is left.

    python benchmarks/evidence/run_queue.py --data DATA [--core 1] [--until 15:45]
    python benchmarks/evidence/run_queue.py --list

Started again, it goes on with what was cut. A run is taken when its gate holds (`runs.Gate`) and
when it fits in the time that is left. A run begun under other conditions (commit, CPU, torch,
threads) is not gone on with, and a system whose other seeds were recorded under other conditions is
not added to: `--list` says so. `--mix` allows the second, and tables then keep them apart.
"""

import argparse
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1])]

from conditions import conditions, differences  # noqa: E402
from runs import LIST, RECORD, Run, is_recorded, read_runs  # noqa: E402
from training import Place, perform  # noqa: E402

NICENESS = 15
GRACE_SECONDS = 60


def waits_for(run: Run, place: Place, now: Dict[str, str], mix: bool) -> str:
    """Why a run that is not recorded cannot be taken; empty if it can.

    Args:
        run: The run.
        place: Where checkpoints and records are.
        now: Conditions of this start.
        mix: Whether a system may have seeds of several conditions.
    """
    failed = note(place, run, "failed")
    if failed.exists():
        return f"failed ({failed}): {failed.read_text(encoding='utf-8').strip()}"
    if run.missing:
        return f"the toolkit lacks {run.missing}"
    if run.predecessor and not is_recorded(place.records, run.predecessor):
        return f"goes on from {run.predecessor}, which is not recorded"
    if run.predecessor and not place.run(run.predecessor).is_dir():
        return f"goes on from {run.predecessor}, whose checkpoints are not here"
    if run.gate and not (holds := run.gate.holds(place.records)):
        return f"{run.gate}: {'not recorded yet' if holds is None else 'it is not'}"
    begun = _conditions(note(place, run, "begun"), run.name)
    begun += [] if mix else _recorded(run.system, place.records)
    for source, other in begun:
        if found := differences(other, now):
            return f"{source} is of other conditions: {'; '.join(found)}"
    return ""


def note(place: Place, run: Run, kind: str) -> Path:
    """The queue's own file about a run: what it was ``begun`` under, or why it ``failed``."""
    return place.work / kind / run.name


def _recorded(system: str, records: Path) -> List[Tuple[str, Dict[str, str]]]:
    """Name and conditions of every recorded run of a system."""
    paths = sorted(records.glob(f"{system}-s[0-9]*/{RECORD}"))
    return [pair for path in paths for pair in _conditions(path, path.parent.name)]


def _conditions(path: Path, name: str) -> List[Tuple[str, Dict[str, str]]]:
    return [(name, json.loads(path.read_text(encoding="utf-8")))] if path.is_file() else []


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def next_run(
    runs: Sequence[Run], place: Place, now: Dict[str, str], mix: bool, hours: float
) -> Optional[Run]:
    """The first run that is not recorded, waits for nothing and fits in the hours left."""
    for run in runs:
        if is_recorded(place.records, run.name) or run.hours > hours:
            continue
        if not waits_for(run, place, now, mix):
            return run
    return None


def states(runs: Sequence[Run], place: Place, now: Dict[str, str], mix: bool) -> Iterator[str]:
    """One line a run: what has become of it."""
    for run in runs:
        reason = waits_for(run, place, now, mix)
        if is_recorded(place.records, run.name):
            state = "recorded"
        elif reason:
            state = f"waits: {reason}"
        else:
            state = "begun" if note(place, run, "begun").exists() else "ready"
        yield f"{run.question}  {run.name:34} {run.hours:6.2f} h  {state}"


# --- running commands ---------------------------------------------------------------------------


class Stopped(Exception):
    """The time is over, or somebody asked the queue to stop."""


class CommandRunner:
    """Runs commands until a deadline; what still runs then is asked to end.

    Args:
        deadline: Seconds of the clock `time.time`.
    """

    def __init__(self, deadline: float):
        self.deadline = deadline

    def __call__(self, command: Sequence[object], log: Path) -> None:
        """Runs a command and appends what it prints to ``log``.

        Raises:
            RuntimeError: It failed; the message quotes its last line.
            Stopped: The deadline came first.
        """
        words = [str(word) for word in command]
        with open(log, "ab") as output:
            process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
            try:
                left = self.deadline - time.time()
                process.wait(None if math.isinf(left) else max(1.0, left))
            except subprocess.TimeoutExpired:
                raise Stopped("the time is over") from None
            finally:
                _end(process)
        if process.returncode:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = lines[-1].strip() if lines else "it printed nothing"
            raise RuntimeError(f"{words[2]} ended with {process.returncode}, see {log}: {last}")


def _end(process: subprocess.Popen) -> None:
    """Asks a process that still runs to end, and ends it if it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def work_off(args: argparse.Namespace, place: Place, now: Dict[str, str]) -> None:
    """Takes runs until none is left that can be taken; the list is read anew before each."""
    while True:
        hours = (args.until - time.time()) / 3600
        run = next_run(wanted(args), place, now, args.mix, hours)
        if run is None:
            say(f"nothing left to take in {min(hours, 9999):.2f} hours; --list says why")
            return
        say(f"{run.name}: begins")
        _write(note(place, run, "begun"), json.dumps(now))
        try:
            perform(run, place, CommandRunner(args.until), now)
            say(f"{run.name}: recorded")
        except (RuntimeError, ValueError, OSError) as error:
            _write(note(place, run, "failed"), f"{error}\n")
            say(f"{run.name}: failed: {error}")


def wanted(args: argparse.Namespace) -> List[Run]:
    """The runs of the list that were asked for.

    Raises:
        ValueError: None has that text in its name.
    """
    found = [run for run in read_runs(args.runs) if args.only in run.name]
    if not found:
        raise ValueError(f"no run of {args.runs} has '{args.only}' in its name; --list shows them")
    return found


def say(text: str) -> None:
    """A line with the time."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


# --- the command --------------------------------------------------------------------------------


@contextmanager
def alone(work: Path) -> Iterator[None]:
    """Keeps a second queue out of the work folder.

    Raises:
        ValueError: There is one.
    """
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "queue.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another queue works in {work}; wait for it, or give --work"
            ) from None
        yield


def settle(core: Optional[int]) -> None:
    """One core, one thread, low priority; what is started from here inherits it."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    os.nice(NICENESS)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = str(HERE.parents[1])


def moment(text: str) -> float:
    """The next time the clock shows HH:MM, in seconds of `time.time`."""
    hour, minute = map(int, text.split(":"))
    now = datetime.now()
    then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return (then if then > now else then + timedelta(days=1)).timestamp()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    new = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("TSA_MT_DATA", HERE.parents[2].parent / "shared" / "data")
    new.add_argument(
        "--data",
        type=Path,
        default=Path(data),
        metavar="DIR",
        help="folder of the public corpora (default: TSA_MT_DATA, or %(default)s)",
    )
    new.add_argument(
        "--work",
        type=Path,
        default=HERE / "work",
        metavar="DIR",
        help="corpora and checkpoints (default: %(default)s, which git ignores)",
    )
    new.add_argument(
        "--records",
        type=Path,
        default=HERE / "records",
        metavar="DIR",
        help="what is kept for good (default: %(default)s)",
    )
    new.add_argument("--runs", type=Path, default=LIST, metavar="FILE", help="the list of runs")
    new.add_argument("--only", default="", metavar="TEXT", help="runs with TEXT in their name")
    new.add_argument("--core", type=int, metavar="N", help="stay on this core")
    new.add_argument(
        "--until",
        type=moment,
        default=float("inf"),
        metavar="HH:MM",
        help="begin nothing that does not fit, and stop then",
    )
    new.add_argument(
        "--mix",
        action="store_true",
        help="add seeds to systems that were recorded under other conditions",
    )
    new.add_argument("--list", action="store_true", help="say what has become of every run")
    return new


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; problems become one sentence and exit status 1."""
    args = parser().parse_args(argv)
    place = Place(args.data.resolve(), args.work.resolve(), args.records.resolve())
    signal.signal(signal.SIGTERM, _stop)
    try:
        settle(args.core)
        now = conditions()
        if args.list:
            print("\n".join(states(wanted(args), place, now, args.mix)))
            return 0
        if not args.data.is_dir():
            raise ValueError(f"there are no data in {args.data}; give --data or TSA_MT_DATA")
        with alone(place.work):
            work_off(args, place, now)
    except (ValueError, OSError) as error:
        print(f"run_queue.py: error: {error}", file=sys.stderr)
        return 1
    except (Stopped, KeyboardInterrupt) as reason:
        say(f"stopped: {reason}; start again to go on")
    return 0


def _stop(number: int, frame: object) -> None:
    raise Stopped(f"signal {number}")


if __name__ == "__main__":
    sys.exit(main())
