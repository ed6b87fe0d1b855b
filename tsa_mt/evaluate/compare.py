"""``tsa-mt compare RUN...``: the table of a paper from the folders of its runs.

Runs that differ in nothing but the seed are one system. Every test set has a table of scores, with
mean and standard deviation over seeds for every checkpoint that was scored, and sacreBLEU's paired
bootstrap against the baseline, seed by seed. What was validated while training has a table taken
from the curves at the best and the last validation; for image classifiers that is the accuracy.
What training cost has another. Nothing is computed here that the runs' folders do not hold.

Every figure of a method has two differences: from the baseline, which tree and method have made
together, and from its control, the same tree whose leaves learn alone, which is the method's own.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from tsa_mt.evaluate.run_folder import Result, ResultKey, Run
from tsa_mt.evaluate.score import read_lines, references_digest
from tsa_mt.evaluate.significance import SAMPLES, paired_bootstrap
from tsa_mt.evaluate.systems import System, control_of, read_systems
from tsa_mt.evaluate.tables import Figure, Versus, tabulate, to_csv, to_latex, to_markdown
from tsa_mt.files import write_text

TESTED = {"BLEU": "bleu", "chrF2": "chrf"}
"""Scores that are tested for significance, and what `paired_bootstrap` calls them."""
COSTS = "training cost"
CHECKPOINTS = ("best", "last")
VALIDATED = {
    "translation": ("nll_loss",),
    "image_classification": ("accuracy", "accuracy_ensemble"),
}
"""Figures of the validation table by task; a BLEU without a signature is none of them."""


def _count(value: float) -> str:
    return f"{value:,.0f}"


SHOWN = {
    "nll_loss": "{:.3f}".format,
    "updates": _count,
    "leader parameters": _count,
    "trained parameters": _count,
    "training FLOPs": "{:.3g}".format,
    "FLOPs vs baseline": "{:.2f}×".format,
    "hours": "{:.2f}".format,
    "tokens/s": _count,
    "peak GiB": "{:.2f}".format,
}


# --- scores -------------------------------------------------------------------------------------


def score_figures(systems: Sequence[System], baseline: System, samples: int) -> List[Figure]:
    """Scores of every test set, checkpoint and leaf.

    Args:
        systems: In the order of the tables.
        baseline: One of them, which the others are tested against.
        samples: Test sets that the paired bootstrap draws; 0 = no tests.

    Raises:
        ValueError: Scores of one test set have different signatures.
        FileNotFoundError: The references of a test are not there.
    """
    keys = dict.fromkeys(key for s in systems for run in s.runs for key in run.results)
    figures = []
    for test_set in dict.fromkeys(key.test_set for key in sorted(keys, key=lambda k: k.test_set)):
        check_signatures(systems, test_set)
        check_references(systems, test_set)
        for key in sorted((k for k in keys if k.test_set == test_set), key=_order):
            figures += _compared_scores(systems, baseline, key, samples)
    return figures


def _compared_scores(
    systems: Sequence[System], baseline: System, key: ResultKey, samples: int
) -> List[Figure]:
    """The scores of a checkpoint and leaf with their differences.

    The baseline ships its leader, so every leaf is compared with that; the control has the same
    leaves, so each is compared with its own kind.
    """
    leader = key._replace(branch=0)
    rivals = [system for system in systems if not (system is baseline and key == leader)]
    against_baseline = _against(baseline, leader, rivals, key, samples)
    against_control: Dict[Tuple[str, str], Versus] = {}
    for control, methods in _controlled(systems):
        against_control.update(_against(control, key, methods, key, samples))
    return [
        replace(
            figure,
            baseline=against_baseline.get((figure.system, figure.measure)),
            control=against_control.get((figure.system, figure.measure)),
        )
        for system in systems
        for figure in _scores_of(system, key)
    ]


def _controlled(systems: Sequence[System]) -> List[Tuple[Optional[System], List[System]]]:
    """Every control with the methods that it belongs to; ``None`` with those that have none."""
    found: List[Tuple[Optional[System], List[System]]] = []
    for system in systems:
        if not system.needs_control:
            continue
        control = control_of(system, systems)
        known = next((methods for other, methods in found if other is control), None)
        if known is None:
            found.append((control, [system]))
        else:
            known.append(system)
    return found


def _against(
    rival: Optional[System],
    place: ResultKey,
    systems: Sequence[System],
    key: ResultKey,
    samples: int,
) -> Dict[Tuple[str, str], Versus]:
    """How the scores of systems stand to those of a rival, by system and metric.

    Args:
        rival: The baseline or a control; ``None`` where there is no control.
        place: Which result of the rival counts.
        systems: What is compared with it.
        key: Which result of theirs.
        samples: Test sets that the paired bootstrap draws; 0 = no tests.
    """
    p_values = _test(systems, rival, place, key, samples) if rival and samples else {}
    found = {}
    for system in systems:
        for figure in _scores_of(system, key):
            other = _values(rival, place, figure.measure) if rival else []
            difference = figure.mean - _mean(other) if other else None
            name = (system.name, figure.measure)
            if other or rival is None:
                found[name] = Versus(difference, tuple(p_values.get(name, ())))
    return found


def _order(key: ResultKey) -> Tuple:
    """The leader before the ensemble before other leaves; best, last, averages."""
    model = CHECKPOINTS.index(key.model) if key.model in CHECKPOINTS else len(CHECKPOINTS)
    leaf = key.branch if key.branch > 0 else -key.branch / 2
    return (leaf, model, key.model)


def check_signatures(systems: Sequence[System], test_set: str) -> None:
    """Refuses scores that do not compare.

    Raises:
        ValueError: Two scores of one metric on one test set have different signatures.
    """
    seen: Dict[str, Tuple[str, str]] = {}
    for run in (run for system in systems for run in system.runs):
        for key, result in run.results.items():
            if key.test_set != test_set:
                continue
            place = f"{run.path} ({key.model}, {key.leaf})"
            for name, score in result.scores.items():
                signature, first = seen.setdefault(name, (score.signature, place))
                if signature != score.signature:
                    raise ValueError(
                        f"{name} on {test_set} was not scored alike, so it does not compare:\n  "
                        f"{first}: {signature}\n  {place}: {score.signature}\nscore them again "
                        f"with the same options and version of sacreBLEU"
                    )


def check_references(systems: Sequence[System], test_set: str) -> None:
    """Refuses scores against references of another content.

    What a result does not say is computed from the files, where they are still there.

    Raises:
        ValueError: Two results of one test set were scored against different lines.
    """
    seen: Dict[str, str] = {}
    for run in (run for system in systems for run in system.runs):
        for key, result in run.results.items():
            if key.test_set != test_set or not result.scores:
                continue
            named = ", ".join(result.references) or "the targets in its log"
            digest = result.references_sha256 or _digest_of_references(run, result)
            if digest:
                seen.setdefault(digest, f"{run.path} ({key.model}, {key.leaf}): {named}")
    if len(seen) > 1:
        places = "\n  ".join(list(seen.values())[:2])
        raise ValueError(
            f"{test_set} was scored against different references, so its scores do not compare:\n"
            f"  {places}\nscore all of them against the same text: tsa-mt score --ref"
        )


def _digest_of_references(run: Run, result: Result) -> str:
    try:
        return references_digest(_references(run, result))
    except FileNotFoundError:
        return ""


def _scores_of(system: System, key: ResultKey) -> List[Figure]:
    """One figure per metric, over the runs that have the result."""
    results = [run.results[key] for run in system.runs if key in run.results]
    figures = []
    for name in dict.fromkeys(name for result in results for name in result.scores):
        scores = [result.scores[name] for result in results if name in result.scores]
        values = tuple(score.score for score in scores)
        row, signature = (key.model, key.leaf), scores[0].signature
        figures.append(Figure(key.test_set, system.name, row, name, values, signature))
    return figures


def _values(system: System, key: ResultKey, metric: str) -> List[float]:
    """Scores of a system's runs that have them."""
    results = [run.results.get(key) for run in system.runs]
    return [r.scores[metric].score for r in results if r is not None and metric in r.scores]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# --- significance -------------------------------------------------------------------------------


def _test(
    systems: Sequence[System], rival: System, place: ResultKey, key: ResultKey, samples: int
) -> Dict[Tuple[str, str], List[float]]:
    """p-values by system and metric: each run against the rival's run of the same seed.

    A seed that the rival was not trained with is tested against the rival's next one.
    """
    against = [run for run in rival.runs if _translated(run, place)]
    found: Dict[Tuple[str, str], List[float]] = {}
    for number, opponent in enumerate(against):
        tested = {
            (system.name, run.record["seed"]): run
            for system in systems
            for turn, run in enumerate(system.runs)
            if _translated(run, key) and _opponent(run, turn, against) == number
        }
        if tested:
            _test_against(opponent, place, tested, key, samples, found)
    return found


def _translated(run: Run, key: ResultKey) -> bool:
    """Whether there are translations and scores."""
    result = run.results.get(key)
    return result is not None and result.log is not None and bool(result.scores)


def _opponent(run: Run, place: int, against: Sequence[Run]) -> int:
    seeds = [other.record["seed"] for other in against]
    seed = run.record["seed"]
    return seeds.index(seed) if seed in seeds else place % len(seeds)


def _test_against(
    opponent: Run,
    place: ResultKey,
    rivals: Dict[Tuple[str, int], Run],
    key: ResultKey,
    samples: int,
    found: Dict[Tuple[str, str], List[float]],
) -> None:
    """Adds the p-values of some runs against one run of the rival."""
    result = opponent.results[place]
    metrics = [TESTED[name] for name in result.scores if name in TESTED]
    texts = {"": result.translations().hypotheses}
    names = {f"{name} {seed}": name for name, seed in rivals}
    for (name, seed), run in rivals.items():
        texts[f"{name} {seed}"] = run.results[key].translations().hypotheses
    comparison = paired_bootstrap(
        texts,
        _references(opponent, result),
        metrics,
        samples=samples,
        **_settings(score.signature for score in result.scores.values()),
    )
    for label, scores in comparison.scores.items():
        for metric, score in scores.items():
            if score.p_value is not None:
                found.setdefault((names[label], metric), []).append(score.p_value)


def _settings(signatures: Iterable[str]) -> Dict[str, Any]:
    """How the scores were computed, so that they are tested in the same way."""
    fields = dict(part.partition(":")[::2] for s in signatures for part in s.split("|"))
    return {"lowercase": fields.get("case") == "lc", "tokenize": fields.get("tok", "13a")}


def _references(run: Run, result: Result) -> List[List[str]]:
    """The references that a result was scored against."""
    if not result.references:
        return [result.translations().targets]
    return [read_lines(_locate(name, run)) for name in result.references]


def _locate(name: str, run: Run) -> Path:
    for folder in (Path(), run.path, *run.path.resolve().parents):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{name}, which {run.path} was scored against, is not there; run tsa-mt compare in the "
        f"folder that you scored in, or leave the paired tests out: --samples 0"
    )


# --- curves -------------------------------------------------------------------------------------


def curve_figures(systems: Sequence[System], baseline: System) -> List[Figure]:
    """What was validated while training, at the best and at the last validation."""
    splits = dict.fromkeys(
        split for s in systems for run in s.runs for split in run.splits if "train" not in split
    )
    rows = [
        figure
        for split in splits
        for system in systems
        for checkpoint in CHECKPOINTS
        for figure in _curve_row(system, split, checkpoint)
    ]
    means = {(f.table, f.system, f.row, f.measure): f.mean for f in rows}
    controls = {m.name: c.name if c else "" for c, ms in _controlled(systems) for m in ms}

    def versus(figure: Figure, rival: Optional[str]) -> Optional[Versus]:
        if rival is None or rival == figure.system:
            return None
        other = means.get((figure.table, rival, figure.row, figure.measure))
        return Versus(None if other is None else figure.mean - other)

    return [
        replace(
            figure,
            baseline=versus(figure, baseline.name),
            control=versus(figure, controls.get(figure.system)),
        )
        for figure in rows
    ]


def _curve_row(system: System, split: str, checkpoint: str) -> List[Figure]:
    figures = []
    for metric in VALIDATED.get(system.runs[0].record["task"], ()):
        found = [_at(run, split, metric, checkpoint) for run in system.runs]
        values = tuple(value for value in found if value is not None)
        if values:
            title = f"{split}, while training"
            figures.append(Figure(title, system.name, (checkpoint,), metric, values))
    return figures


def _at(run: Run, split: str, metric: str, checkpoint: str) -> Optional[float]:
    points = run.series(split, metric)
    if checkpoint == "best":
        best = run.record.get("best") or {}
        points = [point for point in points if point.update == best.get("update")]
    return points[-1].value if points else None


# --- costs --------------------------------------------------------------------------------------


def cost_figures(systems: Sequence[System], baseline: System) -> List[Figure]:
    """What training took, and how large the network is that ships."""
    base = _recorded(baseline, "training_flops")
    figures = []
    for system in systems:
        flops = _recorded(system, "training_flops")
        columns = {
            "updates": _recorded(system, "updates"),
            "leader parameters": [run.record["parameters"]["leader"] for run in system.runs],
            "trained parameters": [run.record["parameters"]["training"] for run in system.runs],
            "training FLOPs": flops,
            "FLOPs vs baseline": [value / _mean(base) for value in flops] if base else [],
            "hours": [value / 3600 for value in _recorded(system, "seconds")],
            "tokens/s": _recorded(system, "tokens_per_second"),
            "peak GiB": [value / 2**30 for value in _recorded(system, "peak_memory_bytes")],
        }
        figures += [
            Figure(COSTS, system.name, (), name, tuple(values))
            for name, values in columns.items()
            if values
        ]
    return figures


def _recorded(system: System, name: str) -> List[float]:
    values = [run.record.get(name) for run in system.runs]
    return [value for value in values if value is not None]


# --- the command --------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a run's folder (the --save-dir), or NAME=FOLDER; runs of one name, or without names "
        "those that differ in nothing but the seed, are averaged",
    )
    parser.add_argument(
        "--baseline",
        metavar="RUN",
        help="folder or name of the system that others are compared with (default: the "
        "plain network if there is one, else the first)",
    )
    parser.add_argument(
        "--format", choices=("markdown", "csv", "latex"), default="markdown", help="of the tables"
    )
    parser.add_argument("--out", metavar="FILE", help="write there instead of printing")
    parser.add_argument(
        "--samples",
        type=int,
        default=SAMPLES,
        metavar="N",
        help=f"test sets that the paired bootstrap draws (default: {SAMPLES}; 0 = no tests)",
    )
    parser.add_argument(
        "--ignore",
        nargs="+",
        default=[],
        metavar="FIELD",
        help="what may differ between averaged runs beside the seed, for instance: commit hardware",
    )


def run(args: argparse.Namespace) -> int:
    """Prints or writes the tables.

    Raises:
        FileNotFoundError: A run or the references of a test are not there.
        ValueError: Runs must not be averaged, scores do not compare, or there is no such baseline.
    """
    systems = read_systems(args.runs, args.ignore)
    baseline = find_baseline(systems, args.baseline)
    for line in warnings_about(systems, args.ignore):
        print(f"tsa-mt compare: warning: {line}", file=sys.stderr)
    scores = score_figures(systems, baseline, args.samples)
    figures = [*scores, *curve_figures(systems, baseline), *cost_figures(systems, baseline)]
    text = render(figures, baseline.name, args.format, args.samples)
    if args.out:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_text(args.out, text)
    else:
        print(text, end="")
    return 0


def find_baseline(systems: Sequence[System], wanted: Optional[str]) -> System:
    """The system of that name, or the one that a run's folder belongs to.

    Unset, the plain network if there is one, else the first system.

    Raises:
        ValueError: There is none.
    """
    if wanted is None:
        return next((system for system in systems if system.is_plain), systems[0])
    for system in systems:
        folders = [run.path.resolve() for run in system.runs]
        if wanted == system.name or Path(wanted).resolve() in folders:
            return system
    known = ", ".join(f"'{system.name}'" for system in systems)
    raise ValueError(
        f"--baseline {wanted} is none of the runs that are compared; give the folder of one of "
        f"them, or a name: {known}"
    )


def warnings_about(systems: Sequence[System], ignored: Sequence[str]) -> List[str]:
    """What a reader of the tables should know."""
    found = [
        f"{run.path} is not finished: {run.record['status']} at update {run.record['updates']:,}"
        for system in systems
        for run in system.runs
        if run.record["status"] != "finished"
    ]
    found += [
        f"{method.name} has no control: give a run of --kd-objective independent on tree "
        f"'{method.runs[0].record['method']['tree']}' and the same data, else nobody can tell what "
        f"of its difference the tree has made without any distillation"
        for control, methods in _controlled(systems)
        if control is None
        for method in methods
    ]
    if ignored:
        found.append(f"runs that were averaged may differ in: {', '.join(ignored)}")
    return found


def notes_about(figures: Sequence[Figure], baseline: str, samples: int) -> List[str]:
    """What the columns of differences mean, below a table that has them."""
    notes = []
    if any(figure.control for figure in figures):
        notes.append(
            "The control is the same tree with the task loss alone (--kd-objective independent): "
            "what a method adds is its difference from that"
        )
    rivals = {
        baseline: any(f.baseline and f.baseline.p_values for f in figures),
        "the control": any(f.control and f.control.p_values for f in figures),
    }
    tested = " and ".join(name for name, is_tested in rivals.items() if is_tested)
    if tested:
        notes.append(
            f"Paired bootstrap against {tested}, {samples:,} samples; over several seeds the "
            f"largest p of the seeds' tests, and how many have p < 0.05"
        )
    return notes


def render(figures: Sequence[Figure], baseline: str, form: str, samples: int) -> str:
    """The figures as text."""
    if form == "csv":
        return to_csv(figures)
    tables = []
    for title in dict.fromkeys(figure.table for figure in figures):
        own = [figure for figure in figures if figure.table == title]
        names = ("checkpoint", "leaf")[: len(own[0].row)]
        table = tabulate(own, names, baseline, SHOWN)
        table.notes.extend(notes_about(own, baseline, samples))
        tables.append(table)
    return {"markdown": to_markdown, "latex": to_latex}[form](tables)
