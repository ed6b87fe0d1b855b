"""``tsa-mt score``: detokenised sacreBLEU scores, each with its signature.

sacreBLEU (Post 2018, "A Call for Clarity in Reporting BLEU Scores") computes them; this file sees
to it that it is given what it expects: one hypothesis for every reference, in order, as plain text.
"""

import argparse
import gzip
import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Union

from sacrebleu.metrics import BLEU, CHRF, TER

PathLike = Union[str, os.PathLike]

METRICS: Dict[str, Callable[..., object]] = {
    "bleu": lambda lowercase, tokenize: BLEU(lowercase=lowercase, tokenize=tokenize),
    "chrf": lambda lowercase, tokenize: CHRF(lowercase=lowercase),
    "chrf++": lambda lowercase, tokenize: CHRF(lowercase=lowercase, word_order=2),
    "ter": lambda lowercase, tokenize: TER(),
}
DEFAULT_METRICS = ("bleu", "chrf")

_LINE = re.compile(r"([DHT])-(\d+)\t(.*)")
_CORPUS_SIZE = re.compile(r".* \S+-\S+ (\d+) examples")
AGAIN = (
    "decode again with --required-batch-size-multiple 1, without which fairseq may drop the end of "
    "a corpus, and without --skip-invalid-size-inputs-valid-test"
)
_SUBWORDS = {"▁": "sentencepiece", "@@ ": "subword_nmt"}


@dataclass(frozen=True)
class Score:
    """A score that can be reported.

    Attributes:
        name: The metric as sacreBLEU calls it, for instance ``chrF2``.
        score: Its value, on a scale to 100.
        signature: Everything that the value depends on beside the text.
        details: sacreBLEU's own line, with precisions and brevity penalty for BLEU.
    """

    name: str
    score: float
    signature: str
    details: str


def score(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str] = DEFAULT_METRICS,
    lowercase: bool = False,
    tokenize: str = "13a",
) -> List[Score]:
    """Scores translations.

    Args:
        hypotheses: Detokenised translations.
        references: One or more sets of references, each as long as ``hypotheses``.
        metrics: Names from `METRICS`.
        lowercase: Ignore case in BLEU and chrF (TER always does).
        tokenize: sacreBLEU's tokeniser for BLEU; ``zh``, ``ja-mecab``, ... for those languages.

    Raises:
        ValueError: A set of references has another length, or there is nothing to score.
    """
    if not hypotheses or not references:
        raise ValueError("there is nothing to score: no hypotheses or no references")
    for number, reference in enumerate(references, start=1):
        if len(reference) != len(hypotheses):
            which = f" {number}" if len(references) > 1 else ""
            raise ValueError(
                f"{len(hypotheses):,} hypotheses but {len(reference):,} lines in reference{which}: "
                f"every reference needs exactly one translation"
            )
    return [_score(METRICS[m](lowercase, tokenize), hypotheses, references) for m in metrics]


def _score(metric: object, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    result = metric.corpus_score(list(hypotheses), [list(lines) for lines in references])
    signature = metric.get_signature()
    return Score(result.name, result.score, str(signature), result.format(signature=str(signature)))


def read_lines(path: PathLike) -> List[str]:
    """Lines of a UTF-8 text file (gzip if its name ends in ``.gz``); only ``\\n`` ends a line.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        content = file.read()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path} is not UTF-8 (line {line})") from error
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


@dataclass(frozen=True)
class GenerateLog:
    """What `fairseq-generate` printed, in the order of the corpus.

    Attributes:
        hypotheses: The best translation of every sentence, detokenised as the log has it.
        targets: The targets it printed, passed through the dictionary; empty if there were none.
    """

    hypotheses: List[str]
    targets: List[str]


def read_generate_log(paths: Sequence[PathLike]) -> GenerateLog:
    """Collects the translations from logs of `fairseq-generate` or `fairseq-interactive`.

    Args:
        paths: The log, or the logs of the shards that one corpus was decoded in.

    Raises:
        FileNotFoundError: A log does not exist.
        ValueError: A log has no ``D-`` lines, a sentence is missing, or one occurs twice.
    """
    found: Dict[str, Dict[int, str]] = {"D": {}, "H": {}, "T": {}}
    size = max(_collect(path, found) for path in paths)
    hypotheses, names = found["D"], ", ".join(map(str, paths))
    if not hypotheses:
        hint = (
            "it has H- lines, but fairseq 0.10 and later print D- lines as well: was it filtered?"
            if found["H"]
            else "is it the output of fairseq-generate?"
        )
        raise ValueError(f"{names} has no D- lines (detokenised translations); {hint}")
    _refuse_holes(names, hypotheses, size)
    order = sorted(hypotheses)
    targets = [found["T"][n] for n in order] if set(order) == set(found["T"]) else []
    return GenerateLog([hypotheses[number] for number in order], targets)


def _refuse_holes(names: str, hypotheses: Dict[int, str], size: int) -> None:
    """Raises if sentences are missing: between others, or at the end of a corpus of ``size``."""
    count = max(size, max(hypotheses) + 1)
    missing = [number for number in range(count) if number not in hypotheses]
    if missing:
        raise ValueError(
            f"{names} lacks {len(missing)} of {count} sentences ({_some(missing)}); {AGAIN}"
        )


def _collect(path: PathLike, found: Dict[str, Dict[int, str]]) -> int:
    """Adds the lines of one log; of an n-best list the first entry, which is the best, counts.

    Returns:
        The size of the corpus if the log tells it, else 0.
    """
    previous, size = None, 0
    for line in read_lines(path):
        match, corpus = _LINE.fullmatch(line), _CORPUS_SIZE.fullmatch(line)
        if corpus:
            size = max(size, int(corpus[1]))
        if not match:
            continue
        kind, number = match[1], int(match[2])
        if kind == "D" and number in found["D"] and number != previous:
            raise ValueError(f"{path}: sentence {number} is translated twice; do the logs overlap?")
        previous = number if kind == "D" else previous
        found[kind].setdefault(number, match[3] if kind == "T" else match[3].partition("\t")[2])
    return size


def _some(numbers: List[int]) -> str:
    text = ", ".join(map(str, numbers[:5]))
    return f"ids {text}" + (", ..." if len(numbers) > 5 else "")


def subword_traces(lines: Sequence[str]) -> Optional[str]:
    """A warning if at least a tenth of the lines still consist of subword pieces, else ``None``."""
    for mark, method in _SUBWORDS.items():
        marked = sum(mark in line for line in lines)
        if lines and marked * 10 >= len(lines):
            return (
                f"{marked:,} of {len(lines):,} hypotheses contain '{mark.strip()}': they look like "
                f"subword pieces, whose score means nothing beside that of text; decode "
                f"with --remove-bpe{' sentencepiece' if method == 'sentencepiece' else ''}"
            )
    return None


def token_traces(lines: Sequence[str]) -> Optional[str]:
    """A warning if most full stops at the end of a line stand alone, as in tokenised text."""
    ends = [line.rstrip() for line in lines if line.rstrip().endswith(".")]
    separated = sum(line.endswith(" .") for line in ends)
    if separated * 2 > len(ends):
        return (
            f"{separated:,} of {len(ends):,} hypotheses that end in a full stop have it separated: "
            f"they look tokenised, but sacreBLEU expects plain text; detokenise them first"
        )
    return None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    system = parser.add_mutually_exclusive_group(required=True)
    system.add_argument("--sys", metavar="FILE", help="detokenised translations, one a line")
    system.add_argument(
        "--generate-log",
        nargs="+",
        metavar="FILE",
        help="output of fairseq-generate (of every shard, if there are several)",
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
        choices=BLEU.TOKENIZERS,
        default="13a",
        help="tokeniser of BLEU (default: 13a)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the scores there as JSON, too")


def run(args: argparse.Namespace) -> int:
    """Scores, prints a line per metric, and writes the JSON file.

    Raises:
        FileNotFoundError: An input does not exist.
        ValueError: Hypotheses and references do not match, or a log is incomplete.
    """
    hypotheses, references = _read_inputs(args)
    warning = subword_traces(hypotheses) or token_traces(hypotheses)
    if warning:
        print(f"tsa-mt score: warning: {warning}", file=sys.stderr)
    scores = score(hypotheses, references, args.metrics, args.lowercase, args.tokenize)
    width = max(len(entry.name) for entry in scores)
    for entry in scores:
        print(f"{entry.name:{width}}  {entry.score:6.2f}  {entry.signature}")
    print(f"{len(hypotheses):,} sentences, {len(references)} reference(s)")
    if args.json:
        _write_json(args, scores, len(hypotheses), len(references))
    return 0


def _read_inputs(args: argparse.Namespace) -> tuple:
    """Hypotheses and sets of references from the files that were named."""
    if args.sys is not None:
        if not args.ref:
            raise ValueError("--sys needs --ref: the raw references to compare with")
        hypotheses, targets = read_lines(args.sys), []
        if sum(line.startswith(("H-", "D-")) for line in hypotheses) * 10 >= len(hypotheses) > 0:
            raise ValueError(
                f"{args.sys} is the output of fairseq-generate; pass it as "
                f"--generate-log {args.sys}"
            )
    else:
        log = read_generate_log(args.generate_log)
        hypotheses, targets = log.hypotheses, log.targets
    if args.ref:
        return hypotheses, [read_lines(path) for path in args.ref]
    if not targets:
        raise ValueError("the log has no T- lines to compare with; name the raw references: --ref")
    print(
        "tsa-mt score: warning: the references are the log's T- lines, which went through the "
        "dictionary; for figures to report use the raw text: --ref",
        file=sys.stderr,
    )
    return hypotheses, [targets]


def _write_json(args: argparse.Namespace, scores: List[Score], sentences: int, sets: int) -> None:
    """Writes the scores with what they were computed from; whole or not at all."""
    report = {
        "system": args.sys if args.sys is not None else args.generate_log,
        "references": args.ref or "T- lines of the log",
        "sentences": sentences,
        "reference_sets": sets,
        "scores": [asdict(entry) for entry in scores],
    }
    path = Path(args.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
