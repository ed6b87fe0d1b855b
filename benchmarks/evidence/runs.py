"""The list of runs, ``runs.yaml``, and what must be recorded before a run is worth its time."""

import json
import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import yaml
from corpus import VALID, Corpus

LIST = Path(__file__).with_name("runs.yaml")
RECORD = "record.json"
MODEL = "average10"


@dataclass(frozen=True)
class Gate:
    """A difference of validation BLEU that must be recorded, as a mean over the seeds there are.

    Attributes:
        better: Name of a system.
        than: Name of another one.
        by: Smallest difference.
        leaf: Leaf of ``better`` that is looked at; -1 is the ensemble of all.
    """

    better: str
    than: str
    by: float
    leaf: int = 0

    def __str__(self):
        leaf = " (ensemble)" if self.leaf == -1 else ""
        return f"{self.better}{leaf} must be {self.by:g} validation BLEU above {self.than}"

    def holds(self, records: Path) -> Optional[bool]:
        """Whether it does; unset as long as one of the two is not recorded."""
        found = [validation_bleu(records, self.better, self.leaf)]
        found.append(validation_bleu(records, self.than, 0))
        if not all(found):
            return None
        better, than = map(statistics.fmean, found)
        return better - than >= self.by


@dataclass(frozen=True)
class Run:
    """One training with one seed.

    Attributes:
        system: Name without the seed; the runs of a system differ in nothing but the seed.
        seed: Its seed.
        question: Number of the question that it answers, see README.md.
        hours: Estimate of core-hours, decoding included.
        corpus: What it is trained on; unset for a run that has a command of its own.
        flags: Flags of ``fairseq-train`` beside those that all runs have.
        command: Instead of ``flags``: a shell command that trains and evaluates into ``{run}``.
        continues: Name of a system whose run of this seed is trained on.
        leaves: Leaves that translate: 0 is the leader, -1 the ensemble.
        gate: What must be recorded first.
        missing: What the toolkit does not have yet and this run needs; empty if it has all.
    """

    system: str
    seed: int
    question: int
    hours: float
    corpus: Optional[Corpus] = None
    flags: Tuple[str, ...] = ()
    command: str = ""
    continues: str = ""
    leaves: Tuple[int, ...] = (0,)
    gate: Optional[Gate] = None
    missing: str = ""

    @property
    def name(self) -> str:
        """Name of its folders."""
        return f"{self.system}-s{self.seed}"

    @property
    def predecessor(self) -> str:
        """Name of the run that it goes on from; empty for a run from scratch."""
        return f"{self.continues}-s{self.seed}" if self.continues else ""


def read_runs(path: Path = LIST) -> List[Run]:
    """Every run, in the order in which they are taken: block by block, within it seed by seed.

    Raises:
        ValueError: Two runs have one name, or an entry has a key that nobody reads.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    runs = [run for block in content["blocks"] for run in _block(block, content["flags"])]
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has {', '.join(twice)} twice; give every run its own name")
    return runs


def _block(block: Dict[str, Any], common: str) -> List[Run]:
    """The runs of a block, all first seeds before all second ones."""
    shared = {key: value for key, value in block.items() if key not in ("title", "systems")}
    runs = [
        run
        for name, entry in block["systems"].items()
        for run in _system(name, {**shared, **entry}, f"{common} {shared.get('flags', '')}")
    ]
    return sorted(runs, key=lambda run: run.seed)


def _system(name: str, entry: Dict[str, Any], before: str) -> List[Run]:
    known = {"question", "hours", "seeds", "sentences", "vocabulary", "gate"}
    known |= {"flags", "command", "continues", "leaves", "missing"}
    if entry.keys() - known:
        odd = ", ".join(sorted(entry.keys() - known))
        raise ValueError(f"{name} has the entry {odd}; known are {', '.join(sorted(known))}")
    own = (
        {"command": entry["command"].strip()}
        if "command" in entry
        else {
            "corpus": Corpus(entry["sentences"], entry["vocabulary"]),
            "flags": tuple(shlex.split(f"{before} {entry['flags']}")),
            "continues": entry.get("continues", ""),
            "leaves": tuple(entry.get("leaves", (0,))),
        }
    )
    own["gate"] = Gate(**entry["gate"]) if "gate" in entry else None
    own["missing"] = entry.get("missing", "")
    return [Run(name, seed, entry["question"], entry["hours"], **own) for seed in entry["seeds"]]


def validation_bleu(records: Path, system: str, leaf: int) -> List[float]:
    """BLEU on the validation set of every recorded seed of a system."""
    branch = f".branch{leaf}" if leaf else ""
    paths = sorted(records.glob(f"{system}-s[0-9]*/results/{MODEL}{branch}.{VALID}.json"))
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [s["score"] for report in reports for s in report["scores"] if s["name"] == "BLEU"]


def is_recorded(records: Path, name: str) -> bool:
    """Whether a run is finished and recorded; the file is the last one that is written."""
    return (records / name / RECORD).is_file()
