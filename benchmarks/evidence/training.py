"""One run from beginning to end: corpus, training, average, translations, scores, record.

Every step leaves a file that says that it is done, so that a run that was cut goes on where it
was. What is kept for good, the record, is small: run.json, curves.csv, the translations of the
validation set and the test sets (gzip) and their scores. Checkpoints stay in the work folder.
"""

import gzip
import json
import os
import re
import shlex
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Sequence, Tuple

from corpus import DECODED, EVERYTHING, LANGUAGES, LINES, TEST_SETS, prepare
from corpus import MODEL as SUBWORDS
from runs import MODEL, RECORD, Run

ROOT = Path(__file__).resolve().parents[2]
POOLED = "pooled"
"""Name of the test set that is all of `TEST_SETS`, one behind the other."""
AVERAGED = 10
TRAINED, SPENT = "trained", "seconds.json"
_HYPOTHESIS = re.compile(r"H-(\d+)\t(\S+)\t(.*)")


@dataclass(frozen=True)
class Place:
    """Where things are.

    Attributes:
        data: Folder of the public corpora.
        work: Corpora and checkpoints; ignored by git.
        records: What is committed.
    """

    data: Path
    work: Path
    records: Path

    def run(self, name: str) -> Path:
        """The folder in which a run trains."""
        return self.work / "runs" / name


Runner = Callable[[Sequence[object], Path], None]
"""Runs a command to its end and appends what it prints to a file; raises if it fails."""


def perform(run: Run, place: Place, runner: Runner, conditions: Dict[str, str]) -> None:
    """Trains, translates, scores and records a run, or what of it is still to be done.

    Args:
        run: What to do.
        place: Where.
        runner: Runs the commands.
        conditions: What the record names: commit, CPU, torch, threads.

    Raises:
        FileNotFoundError: Data are missing, or the run that this one goes on from.
        RuntimeError: A command failed.
    """
    folder = place.run(run.name)
    if run.command:
        command = ["bash", "-c", own_command(run, place)]
        _timed(folder, lambda: runner(command, folder / "train.log"))
    else:
        corpus = prepare(run.corpus, place.data, place.work)
        if run.predecessor:
            _take_over(place.run(run.predecessor), folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / TRAINED).exists():
            command = training_command(run, corpus, place)
            _timed(folder, lambda: runner(command, folder / "train.log"))
            (folder / TRAINED).touch()
        _translate(run, corpus, folder, runner)
    record(run, folder, place, conditions)


# --- training -----------------------------------------------------------------------------------


def training_command(run: Run, corpus: Path, place: Place) -> List[object]:
    """The ``fairseq-train`` command of a run."""
    flags = [flag.format(work=place.work, seed=run.seed) for flag in run.flags]
    return [
        *(sys.executable, "-m", "fairseq_cli.train", corpus / "data-bin"),
        *("--user-dir", ROOT / "tsa_mt", "--source-lang", LANGUAGES[0]),
        *("--target-lang", LANGUAGES[1], *flags, "--seed", run.seed),
        *("--save-dir", place.run(run.name)),
    ]


def own_command(run: Run, place: Place) -> str:
    """A run's own shell command with its places filled in."""
    words = {"root": ROOT, "data": place.data, "work": place.work, "run": place.run(run.name)}
    quoted = {name: shlex.quote(str(path)) for name, path in words.items()}
    return run.command.format(system=run.system, seed=run.seed, **quoted)


def _take_over(before: Path, folder: Path) -> None:
    """Copies the run that is trained on, unless that was done.

    Raises:
        FileNotFoundError: It is not there, or not finished.
    """
    if folder.exists():
        return
    if not (before / TRAINED).exists():
        raise FileNotFoundError(f"{before} is not trained to its end; this run goes on from there")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    skipped = shutil.ignore_patterns(TRAINED, "results", f"checkpoint_{MODEL}.pt", "*.log")
    shutil.copytree(before, partial, ignore=skipped)
    partial.rename(folder)


def _timed(folder: Path, step: Callable[[], None]) -> None:
    """Does a step and adds what it took to what earlier starts took: wall and processor time."""
    folder.mkdir(parents=True, exist_ok=True)
    before, start = os.times(), time.monotonic()
    try:
        step()
    finally:
        after, spent = os.times(), _spent(folder)
        used = sum(after[2:4]) - sum(before[2:4])
        spent = {"wall": spent["wall"] + time.monotonic() - start, "cpu": spent["cpu"] + used}
        (folder / SPENT).write_text(json.dumps(spent), encoding="utf-8")


def _spent(folder: Path) -> Dict[str, float]:
    path = folder / SPENT
    return json.loads(path.read_text()) if path.is_file() else {"wall": 0.0, "cpu": 0.0}


# --- translating --------------------------------------------------------------------------------


def _translate(run: Run, corpus: Path, folder: Path, runner: Runner) -> None:
    """Averages the last checkpoints, translates with it, and scores."""
    average = folder / f"checkpoint_{MODEL}.pt"
    cli = (sys.executable, "-m", "tsa_mt.cli")
    if not average.exists():
        options = ("--last", AVERAGED, "--update-based", "--out", average)
        runner([*cli, "average", folder, *options], folder / "average.log")
    for leaf in run.leaves:
        stem = f"{MODEL}.branch{leaf}" if leaf else MODEL
        if (folder / "results" / f"{stem}.{POOLED}.json").exists():
            continue
        log = folder / f"{stem}.generate.log"
        log.unlink(missing_ok=True)
        runner(generate_command(corpus, average, leaf), log)
        save_results(stem, hypotheses(log, corpus), corpus, folder / "results")
        log.unlink()


def generate_command(corpus: Path, checkpoint: Path, leaf: int) -> List[object]:
    """The ``fairseq-generate`` command: beam 5, no sentence left out."""
    return [
        *(sys.executable, "-m", "fairseq_cli.generate", corpus / "data-bin"),
        *("--user-dir", ROOT / "tsa_mt", "--path", checkpoint, "--gen-subset", "test"),
        *("--source-lang", LANGUAGES[0], "--target-lang", LANGUAGES[1], "--cpu"),
        *("--beam", 5, "--lenpen", 1, "--max-tokens", 8192, "--required-batch-size-multiple", 1),
        *("--model-overrides", f"{{'decode_branch': {leaf}}}"),
    ]


def hypotheses(log: Path, corpus: Path) -> List[Tuple[str, str]]:
    """Score and text of every sentence, byte pieces joined as ``tsa-mt translate`` joins them.

    Args:
        log: Output of ``fairseq-generate``.
        corpus: Folder of the corpus, with its subword model.

    Raises:
        ValueError: A sentence is missing.
    """
    from tsa_mt.translate.subwords import SentencePiece

    codec = SentencePiece(corpus / "data-bin" / SUBWORDS)
    found: Dict[int, Tuple[str, str]] = {}
    with open(log, encoding="utf-8", newline="\n") as file:
        for match in filter(None, map(_HYPOTHESIS.match, file)):
            found.setdefault(
                int(match[1]), (f"{float(match[2]):.3f}", codec.decode(match[3].split()))
            )
    wanted = sum(LINES[name] for name in DECODED)
    if sorted(found) != list(range(wanted)):
        raise ValueError(f"{log} has {len(found):,} of {wanted:,} sentences; decode again")
    return [found[number] for number in range(wanted)]


def save_results(stem: str, found: Sequence[Tuple[str, str]], corpus: Path, folder: Path) -> None:
    """Writes translations and scores of every set and of the pooled test sets.

    Args:
        stem: Name of the model, with its leaf.
        found: Score and text of every sentence of `DECODED`, in that order.
        corpus: Folder of the corpus, whose raw text is scored against.
        folder: Where the files go; the pooled scores are written last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows, references in sections(found, corpus / "raw"):
        lines = "".join(f"D-{n}\t{score}\t{text}\n" for n, (score, text) in enumerate(rows))
        (folder / f"{stem}.{name}.log.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
        report = scores([text for _, text in rows], references, name)
        path = folder / f"{stem}.{name}.json"
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def sections(
    found: Sequence[Tuple[str, str]], raw: Path
) -> Iterator[Tuple[str, List[Tuple[str, str]], List[str]]]:
    """Name, translations and references of the validation set, the test sets, and these pooled."""
    target = f".{LANGUAGES[1]}"
    path = raw / f"{EVERYTHING}{target}"
    references = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    start = 0
    for name in DECODED:
        stop = start + LINES[name]
        yield name, list(found[start:stop]), references[start:stop]
        start = stop
    pooled = sum(LINES[name] for name in TEST_SETS)
    yield POOLED, list(found[-pooled:]), references[-pooled:]


def scores(texts: Sequence[str], references: Sequence[str], name: str) -> Dict[str, object]:
    """What ``tsa-mt score --json`` writes, the references named as `tables.py` lays them out."""
    from tsa_mt.evaluate.score import references_digest, score

    return {
        "system": name,
        "scores": [asdict(entry) for entry in score(texts, [references])],
        "references": [f"references/{name}.{LANGUAGES[1]}"],
        "references_sha256": references_digest([references]),
        "sentences": len(texts),
        "reference_sets": 1,
    }


# --- recording ----------------------------------------------------------------------------------


def record(run: Run, folder: Path, place: Place, conditions: Dict[str, str]) -> None:
    """Copies what was learnt into the records, without names of this machine's folders.

    Args:
        run: The run, which is finished.
        folder: Where it trained.
        place: Where its record goes.
        conditions: What it was trained under.
    """
    target = place.records / run.name
    partial = target.with_name(f".{run.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if (folder / "results").is_dir():
        shutil.copytree(folder / "results", partial / "results")
    for name in ("run.json", "curves.csv"):
        text = (folder / name).read_text(encoding="utf-8")
        (partial / name).write_text(_portable(text, place), encoding="utf-8")
    facts = {
        **{"name": run.name, "system": run.system, "question": run.question, **conditions},
        "corpus": run.corpus._asdict() if run.corpus else None,
        "command": run.command
        or shlex.join(("fairseq-train", *run.flags, "--seed", str(run.seed))),
        "continues": run.continues or None,
        "training_seconds": _spent(folder),
        "recorded": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    (partial / RECORD).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def _portable(text: str, place: Place) -> str:
    for path, name in ((place.work, "WORK"), (ROOT, "CHECKOUT"), (place.data, "DATA")):
        text = text.replace(str(path), name)
    return text
