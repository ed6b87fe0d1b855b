"""``tsa-mt score``: scores of one system, or of several and whether they really differ."""

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

from tsa_mt.evaluate.comet import read_comet
from tsa_mt.evaluate.score import (
    DEFAULT_METRICS,
    METRICS,
    Score,
    check_lengths,
    read_generate_log,
    read_lines,
    references_digest,
    score,
    subword_traces,
    token_traces,
    tokeniser_needed,
)
from tsa_mt.evaluate.significance import (
    SAMPLES,
    SEED,
    PairedBootstrap,
    paired_bootstrap,
    verdicts,
)
from tsa_mt.files import write_json


@dataclass(frozen=True)
class System:
    """Translations to score.

    Attributes:
        name: What tables call it.
        source: The file that they were read from, or the logs of all shards.
        hypotheses: One translation a sentence.
        targets: The targets that a log has; empty for plain text.
    """

    name: str
    source: Union[str, List[str]]
    hypotheses: List[str]
    targets: List[str]


class _AddSystems(argparse.Action):
    """Collects texts and logs in the order of the command line: the first is the baseline."""

    def __call__(self, parser, namespace, values, option_string=None):
        is_log = option_string == "--generate-log"
        systems = [(True, values)] if is_log else [(False, [path]) for path in values]
        namespace.systems = [*(namespace.systems or []), *systems]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.set_defaults(systems=None)
    parser.add_argument(
        "--sys",
        nargs="+",
        action=_AddSystems,
        dest="systems",
        metavar="FILE",
        help="detokenised translations, one a line; several files are several systems",
    )
    parser.add_argument(
        "--generate-log",
        nargs="+",
        action=_AddSystems,
        dest="systems",
        metavar="FILE",
        help="output of fairseq-generate (of every shard, if there are several); once a system",
    )
    parser.add_argument(
        "--ref",
        nargs="+",
        metavar="FILE",
        help="raw references, one a line; several files are several references (default with "
        "--generate-log: the T- lines, which went through the dictionary)",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=METRICS,
        default=list(DEFAULT_METRICS),
        help=f"what to compute (default: {' '.join(DEFAULT_METRICS)})",
    )
    parser.add_argument("--lowercase", action="store_true", help="ignore case in BLEU and chrF")
    parser.add_argument(
        "--tokenize",
        type=_tokenizer,
        default="13a",
        metavar="NAME",
        help="sacreBLEU's tokeniser for BLEU, such as zh or ja-mecab (default: 13a)",
    )
    parser.add_argument(
        "--comet",
        nargs=2,
        metavar=("FILE", "MODEL"),
        help="add the scores that comet-score wrote with --to_json, and the model they are of",
    )
    _add_paired_arguments(parser)
    parser.add_argument("--json", metavar="FILE", help="write the scores there as JSON, too")


def _tokenizer(name: str) -> str:
    from sacrebleu.metrics import BLEU  # takes longer than the rest of the command's start

    if name not in BLEU.TOKENIZERS:
        known = ", ".join(BLEU.TOKENIZERS)
        raise argparse.ArgumentTypeError(f"no tokeniser {name!r}; sacreBLEU has {known}")
    return name


def _add_paired_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--paired",
        action="store_true",
        help="test every system against the first by paired bootstrap resampling",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=SAMPLES,
        metavar="N",
        help=f"resampled test sets of --paired (default: {SAMPLES})",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=SEED,
        metavar="N",
        help=f"seed of --paired (default: {SEED}, sacreBLEU's own)",
    )


def run(args: argparse.Namespace) -> int:
    """Scores, prints a line per metric or a table of the systems, and writes the JSON file.

    Raises:
        FileNotFoundError: An input does not exist.
        ValueError: Hypotheses and references do not match, or a log is incomplete.
    """
    systems = _read_systems(args)
    references = _read_references(args, systems)
    for system in systems:
        warning = subword_traces(system.hypotheses) or token_traces(system.hypotheses)
        if warning:
            which = f"{system.name}: " if len(systems) > 1 else ""
            print(f"tsa-mt score: warning: {which}{warning}", file=sys.stderr)
    unfit = tokeniser_needed(references, args.tokenize) if "bleu" in args.metrics else None
    if unfit:
        print(f"tsa-mt score: warning: {unfit}", file=sys.stderr)
    if args.paired:
        report = _compare(args, systems, references)
    else:
        report = _score_each(args, systems, references)
    print(f"{len(references[0]):,} sentences, {len(references)} reference(s)")
    if args.json:
        _write_json(args, report, references)
    return 0


def _score_each(
    args: argparse.Namespace, systems: Sequence[System], references: List[List[str]]
) -> Dict:
    """Prints the scores of every system; returns what goes into the JSON file."""
    report, name = [], len(systems) > 1
    for system in systems:
        if name:
            check_lengths(system.hypotheses, references, system.name)
        scores = score(system.hypotheses, references, args.metrics, args.lowercase, args.tokenize)
        if args.comet:
            path, model = args.comet
            scores.append(read_comet(path, system.hypotheses, model))
        if name:
            print(system.name)
        _print_scores(scores)
        report.append({"system": system.source, "scores": [asdict(entry) for entry in scores]})
    return {"systems": report} if name else report[0]


def _print_scores(scores: Sequence[Score]) -> None:
    width = max(len(entry.name) for entry in scores)
    for entry in scores:
        print(f"{entry.name:{width}}  {entry.score:6.2f}  {entry.signature}")


def _compare(
    args: argparse.Namespace, systems: Sequence[System], references: List[List[str]]
) -> Dict:
    """Prints the table of a paired test; returns what goes into the JSON file."""
    texts = {system.name: system.hypotheses for system in systems}
    settings = (args.metrics, args.samples, args.seed, args.lowercase, args.tokenize)
    comparison = paired_bootstrap(texts, references, *settings)
    print("\n".join(_table(comparison)))
    for metric, signature in comparison.signatures.items():
        print(f"{metric}  {signature}")
    print("\n".join(verdicts(comparison)))
    return {
        "systems": [
            {
                "system": system.source,
                "scores": [
                    {"name": metric, **asdict(entry), "signature": comparison.signatures[metric]}
                    for metric, entry in comparison.scores[system.name].items()
                ],
            }
            for system in systems
        ],
        "paired": {
            "test": "bootstrap",
            "baseline": systems[0].source,
            "samples": args.samples,
            "seed": args.seed,
        },
    }


def _table(comparison: PairedBootstrap) -> List[str]:
    """Score, mean and confidence interval, and p-value; the baseline stands first."""
    rows = [("system", *(f"{metric} (mean ± 95 % CI)  p" for metric in comparison.signatures))]
    for name, scores in comparison.scores.items():
        label = f"{name} (baseline)" if name == comparison.baseline else name
        cells = (
            f"{entry.score:.2f} ({entry.mean:.2f} ± {entry.ci:.2f})  "
            + ("-" if entry.p_value is None else f"{entry.p_value:.4f}")
            for entry in scores.values()
        )
        rows.append((label, *cells))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(f"{cell:{w}}" for cell, w in zip(row, widths)).rstrip() for row in rows]


def _read_systems(args: argparse.Namespace) -> List[System]:
    """The texts and logs that were named, in that order."""
    if not args.systems:
        raise ValueError("there is nothing to score; name translations: --sys or --generate-log")
    if not args.ref and not any(is_log for is_log, _ in args.systems):
        raise ValueError("--sys needs --ref: the raw references to compare with")
    if args.paired and len(args.systems) < 2:
        raise ValueError(
            "--paired needs a baseline and at least one other system; name several files behind "
            "--sys, or give --generate-log once a system"
        )
    if args.paired and args.comet:
        raise ValueError("--paired tests sacreBLEU's metrics only; test COMET with comet-compare")
    paths = [path for _, files in args.systems for path in files]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is named twice; give every system once")
    names = _names([files for _, files in args.systems])
    return [_read_system(name, *entry) for name, entry in zip(names, args.systems)]


def _names(systems: Sequence[Sequence[str]]) -> List[str]:
    """File names where these tell the systems apart, else whole paths."""
    short = [Path(files[0]).name for files in systems]
    return short if len(set(short)) == len(short) else [files[0] for files in systems]


def _read_system(name: str, is_log: bool, files: List[str]) -> System:
    if is_log:
        log = read_generate_log(files)
        return System(name, files, log.hypotheses, log.targets)
    (path,) = files
    hypotheses = read_lines(path)
    if sum(line.startswith(("H-", "D-")) for line in hypotheses) * 10 >= len(hypotheses) > 0:
        raise ValueError(
            f"{path} is the output of fairseq-generate; pass it as --generate-log {path}"
        )
    return System(name, path, hypotheses, [])


def _read_references(args: argparse.Namespace, systems: Sequence[System]) -> List[List[str]]:
    """The references that were named, else the targets of the first log that has them."""
    if args.ref:
        return [read_lines(path) for path in args.ref]
    targets: Optional[List[str]] = next((s.targets for s in systems if s.targets), None)
    if targets is None:
        raise ValueError("the log has no T- lines to compare with; name the raw references: --ref")
    print(
        "tsa-mt score: warning: the references are the log's T- lines, which went through the "
        "dictionary; for figures to report use the raw text: --ref",
        file=sys.stderr,
    )
    return [targets]


def _write_json(args: argparse.Namespace, report: Dict, references: Sequence[List[str]]) -> None:
    """Writes the scores with what they were computed from."""
    conditions: Tuple = (
        ("references", args.ref or "T- lines of the log"),
        ("references_sha256", references_digest(references)),
        ("sentences", len(references[0])),
        ("reference_sets", len(references)),
    )
    content = {**report, **dict(conditions)}
    path = Path(args.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
