"""How fast data-prep is against the usual chain, and how its memory grows with the corpus.

    python benchmarks/data_prep.py speed --lines 200000 --work DIR     # DIR/speed.json
    python benchmarks/data_prep.py memory --lines 1000000 --work DIR   # DIR/memory-1000000.json

`speed` takes real German-English pairs from ../shared/data (Europarl, the Bible, Tatoeba) and
prepares the same ones in three ways, one after the other: data-prep's modern recipe, its published
recipe, and the usual chain: one sacremoses process piped to subword-nmt, then fairseq-preprocess
with two workers. Subword vocabularies are of one size. `memory` makes up pairs, so that any number
of them can be had, and runs the modern recipe.
"""

import argparse
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
CORPORA = ("europarl.de-en/europarl-v7.head20k.de-en", "bible.de-en/bible-uedin-v1.de-en")
VOCABULARY = 32_000
VALID = 1_000


def real_pairs() -> Iterator[Tuple[str, str]]:
    """German and English: Europarl, the Bible, then Tatoeba from its longest sentence down."""
    for stem in CORPORA:
        files = [gzip.open(SHARED / f"{stem}.{code}.gz") for code in ("de", "en")]
        yield from zip(*([line.decode().rstrip("\n") for line in f] for f in files), strict=True)
    with zipfile.ZipFile(SHARED / "tatoeba" / "deu-eng.zip") as archive:
        rows = archive.read("deu.txt").decode().split("\n")[:-1]
    for row in reversed(rows):
        english, german = row.split("\t")[:2]
        yield german, english


def made_up_pairs() -> Iterator[Tuple[str, str]]:
    """Pairs without end: 8 words a side, 50,000 different ones, rare ones rarely."""
    draw = random.Random(1)
    words = [
        "".join(draw.choices("abdefgiklmnoprstu", k=draw.randrange(2, 10))) for _ in range(50_000)
    ]
    while True:
        picked = [words[int(50_000 ** draw.random()) - 1] for _ in range(16)]
        yield " ".join(picked[:8]), " ".join(picked[8:])


def write_corpus(pairs: Iterator[Tuple[str, str]], folder: Path, lines: int) -> None:
    """Write train and valid files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("valid", VALID), ("train", lines)):
        with open(folder / f"{split}.de", "w") as one, open(folder / f"{split}.en", "w") as two:
            for source, target in islice(pairs, count):
                one.write(f"{source}\n")
                two.write(f"{target}\n")


def data_prep(corpus: Path, out: Path, workers: int, *options: str) -> Dict[str, Any]:
    """Run prepare.py; returns its seconds by step, and what it said of its memory."""
    shutil.rmtree(out, ignore_errors=True)
    files = [
        a
        for split in ("train", "valid")
        for a in (f"--{split}", str(corpus / f"{split}.de"), str(corpus / f"{split}.en"))
    ]
    command = [
        sys.executable,
        str(ROOT / "data-prep" / "prepare.py"),
        "custom",
        "--source-lang",
        "de",
        "--target-lang",
        "en",
        *files,
        "--out",
        str(out),
        "--workers",
        str(workers),
    ]
    started = time.monotonic()
    said = subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout
    total = time.monotonic() - started
    steps: Dict[str, float] = defaultdict(float)
    for name, seconds in json.loads((out / "work" / "timings.json").read_text()).items():
        if name != "total":
            steps[name.split("/")[0]] += seconds
    steps["start and end"] = total - sum(steps.values())
    words = next(line for line in said.splitlines() if line.startswith("done")).split()
    peaks = [int(words[i - 1]) for i, word in enumerate(words) if word == "MiB"]
    return {"steps": dict(steps), "total": total, "peaks": peaks}


def usual_chain(corpus: Path, out: Path) -> Dict[str, Any]:
    """The chain that most scripts use, with a vocabulary of the same size."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    names = [f"{split}.{code}" for split in ("train", "valid") for code in ("de", "en")]
    stages = {
        "tokenise": [
            f"sacremoses -q -l {name[-2:]} -j 1 tokenize -x < {corpus / name} > {out}/tok.{name}"
            for name in names
        ],
        "learn": [
            f"cat {out}/tok.train.de {out}/tok.train.en | subword-nmt learn-bpe "
            f"-s {VOCABULARY} > {out}/codes 2> {out}/learn.log"
        ],
        "apply": [
            f"subword-nmt apply-bpe -c {out}/codes < {out}/tok.{name} > {out}/{name}"
            for name in names
        ],
        "preprocess": [
            f"fairseq-preprocess --source-lang de --target-lang en --joined-dictionary "
            f"--workers 2 --trainpref {out}/train --validpref {out}/valid "
            f"--destdir {out}/data-bin > {out}/preprocess.log 2>&1"
        ],
    }
    seconds = {}
    for stage, commands in stages.items():
        started = time.monotonic()
        for command in commands:
            subprocess.run(["bash", "-c", command], check=True, env=environment)
        seconds[stage] = time.monotonic() - started
    return {"steps": seconds, "total": sum(seconds.values())}


def summary(timed: Dict[str, Any], lines: int) -> Dict[str, Any]:
    """Pairs per second, the share of each step, and the slowest one."""
    steps, total = timed["steps"], timed["total"]
    largest = sorted(steps.items(), key=lambda item: -item[1])
    return {
        "seconds": round(total, 1),
        "pairs_per_second": round(lines / total),
        "shares": {name: round(value / total, 3) for name, value in largest},
        "slowest": largest[0][0],
    }


def speed(work: Path, lines: int, workers: int) -> Dict[str, Any]:
    """Time the three ways."""
    corpus = work / "corpus"
    write_corpus(real_pairs(), corpus, lines)
    sizes = (
        f"preparations.modern.subword.sentencepiece.vocab_size={VOCABULARY}",
        f"preparations.published.subword.bpe.merges={VOCABULARY}",
    )
    results = {}
    for name, size in zip(("modern", "published"), sizes, strict=True):
        options = ("--preparation", name, "--set", size)
        results[name] = summary(data_prep(corpus, work / name, workers, *options), lines)
    results["usual"] = summary(usual_chain(corpus, work / "usual"), lines)
    for name in ("modern", "published"):
        ratio = results["usual"]["seconds"] / results[name]["seconds"]
        results[name]["times_faster_than_usual"] = round(ratio, 2)
    return {"lines": lines, "workers": workers, "load_before": os.getloadavg()[0], **results}


def memory(work: Path, lines: int, workers: int) -> Dict[str, Any]:
    """Peak memory of the modern recipe on made-up pairs."""
    corpus = work / "made-up"
    write_corpus(made_up_pairs(), corpus, lines)
    timed = data_prep(corpus, work / "memory", workers)
    main_mib, worker_mib = timed["peaks"]
    return {
        "lines": lines,
        "workers": workers,
        "main_mib": main_mib,
        "worker_mib": worker_mib,
        **summary(timed, lines),
    }


def main() -> None:
    """Parse the command line, run, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("speed", "memory"))
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    run = {"speed": speed, "memory": memory}[arguments.what]
    result = run(arguments.work, arguments.lines, arguments.workers)
    name = "speed.json" if arguments.what == "speed" else f"memory-{arguments.lines}.json"
    text = json.dumps(result, indent=2)
    (arguments.work / name).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
