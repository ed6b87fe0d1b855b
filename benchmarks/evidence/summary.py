"""The short table of a comparison: cost and score of each system, and one test over all seeds.

It stands above the tables of ``tsa-mt compare``. Core-hours are processor time, so that a neighbour
on the machine costs a run nothing. Seeds that the rival does not have are left out of a difference.
"""

import json
import statistics
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from pooled import pooled_difference
from runs import MODEL, RECORD
from training import POOLED

from tsa_mt.evaluate.run_folder import ResultKey, Run
from tsa_mt.evaluate.score import read_lines
from tsa_mt.evaluate.systems import System, control_of, read_systems

KEY = ResultKey(MODEL, 0, POOLED)


def summary(runs: Sequence[str], baseline: str, folder: Path) -> str:
    """A Markdown table with a row for each system.

    Args:
        runs: ``NAME=FOLDER`` for each record, as ``tsa-mt compare`` takes them.
        baseline: Name of the system that others are compared with.
        folder: Where the references lie, under the names that the records have for them.
    """
    systems = read_systems(runs)
    rival = next(system for system in systems if system.name == baseline)
    head = ["system", "seeds", "updates", "core-hours", f"BLEU, {POOLED}"]
    head += [f"against {baseline}", "against its control"]
    rows = [[*_facts(s), *_against(s, rival, systems, folder)] for s in systems]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _facts(system: System) -> List[str]:
    """Name, seeds, updates, core-hours, BLEU."""
    hours = [_processor_seconds(run) / 3600 for run in system.runs]
    scores = [run.results[KEY].scores["BLEU"].score for run in system.runs]
    updates = sorted({run.record["updates"] for run in system.runs})
    listed = ", ".join(f"{count:,}" for count in updates)
    spread = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    score = f"{statistics.fmean(scores):.2f}{spread}"
    return [system.name, str(len(scores)), listed, f"{statistics.fmean(hours):.3f}", score]


def _processor_seconds(run: Run) -> float:
    return json.loads((run.path / RECORD).read_text(encoding="utf-8"))["training_seconds"]["cpu"]


def _against(
    system: System, rival: System, systems: Sequence[System], folder: Path
) -> Tuple[str, str]:
    """The differences from the baseline and from the control, where there is one."""
    control = control_of(system, systems) if system.needs_control else None
    return _difference(system, rival, folder), _difference(system, control, folder)


def _difference(system: System, rival: Optional[System], folder: Path) -> str:
    """Difference and p-value over the seeds that both have; empty where there is no rival."""
    shared = sorted(set(system.seeds) & set(rival.seeds)) if rival and rival is not system else []
    if not shared:
        return ""
    ours, theirs = (_translations(each, shared) for each in (system, rival))
    (reference,) = rival.runs[0].results[KEY].references
    difference, p = pooled_difference(ours, theirs, read_lines(folder / reference))
    return f"{difference:+.2f}, p = {p:.3f}, {len(shared)} seed{'s' * (len(shared) > 1)}"


def _translations(system: System, seeds: Sequence[int]) -> List[List[str]]:
    chosen = [run for run in system.runs if run.record["seed"] in seeds]
    return [run.results[KEY].translations().hypotheses for run in chosen]
