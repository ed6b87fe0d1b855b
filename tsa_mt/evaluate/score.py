"""Detokenised sacreBLEU scores, each with its signature, and the texts that they are made from.

sacreBLEU (Post 2018, "A Call for Clarity in Reporting BLEU Scores") computes them; this file sees
to it that it is given what it expects: one hypothesis for every reference, in order, as plain text.
"""

import hashlib
import re
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Dict, List, Optional, Sequence

from tsa_mt.byte_pieces import has_bytes, join_bytes_in_text
from tsa_mt.characters import scoring_tokeniser
from tsa_mt.files import PathLike
from tsa_mt.segments import read_segments
from tsa_mt.textfile import SGML, TMX, TextError, open_text

METRICS = ("bleu", "chrf", "chrf++", "ter")
DEFAULT_METRICS = ("bleu", "chrf")
SPACED = ("13a", "intl", "none")
"""Tokenisers of sacreBLEU that find words by spaces."""

_LINE = re.compile(r"([DHST])-(\d+)\t(.*)")
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


def build_metric(name: str, lowercase: bool, tokenize: str) -> Any:
    """Builds one of sacreBLEU's metrics, by its name in `METRICS`."""
    from sacrebleu.metrics import BLEU, CHRF, TER  # not above: `tsa-mt score --help` does without

    if name == "bleu":
        return BLEU(lowercase=lowercase, tokenize=tokenize)
    if name == "ter":
        return TER()
    return CHRF(lowercase=lowercase, word_order=2 if name == "chrf++" else 0)


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
    check_lengths(hypotheses, references)
    return [_score(build_metric(m, lowercase, tokenize), hypotheses, references) for m in metrics]


def check_lengths(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], system: str = ""
) -> None:
    """Raises unless there is exactly one translation for every reference.

    Args:
        hypotheses: Translations.
        references: Sets of references.
        system: Whose translations these are, for the message.

    Raises:
        ValueError: A set of references has another length, or there is nothing to score.
    """
    where = f"{system}: " if system else ""
    if not hypotheses or not references:
        raise ValueError(f"{where}there is nothing to score: no hypotheses or no references")
    for number, reference in enumerate(references, start=1):
        if len(reference) != len(hypotheses):
            which = f" {number}" if len(references) > 1 else ""
            raise ValueError(
                f"{where}{len(hypotheses):,} hypotheses but {len(reference):,} lines in "
                f"reference{which}: every reference needs exactly one translation"
            )


def references_digest(references: Sequence[Sequence[str]]) -> str:
    """What tells references apart: the SHA-256 of all their lines, set by set.

    Where a file lies and how its lines end does not count.
    """
    content = hashlib.sha256()
    for lines in references:
        content.update(f"{len(lines)}\n".encode())
        content.update("".join(f"{line}\n" for line in lines).encode(errors="surrogatepass"))
    return content.hexdigest()


def _score(metric: Any, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    result = metric.corpus_score(list(hypotheses), [list(lines) for lines in references])
    signature = metric.get_signature()
    return Score(result.name, result.score, str(signature), result.format(signature=str(signature)))


def read_lines(path: PathLike) -> List[str]:
    """Lines of a text file of any kind, or the segments of an SGML one; only LF ends a line.

    Raises:
        FileNotFoundError: There is no such file.
        TextError: It is no text, or a translation memory, or a table with tabs.
    """
    with open_text(path) as text:
        if text.kind == SGML:
            return [segment.text for segment in read_segments(text)]
        if text.kind == TMX:
            raise TextError(f"{path} is a translation memory (TMX); write the side as text")
        lines = list(chain.from_iterable(text.blocks(carriage_returns=True)))
    tabs = {line.count("\t") for line in lines}
    if len(lines) > 1 and len(tabs) == 1 and tabs != {0} and not _LINE.match(lines[0]):
        raise TextError(
            f"{path} is a table: every line has {tabs.pop() + 1} columns separated by tabs; give "
            f"one of them, e.g. <(cut -f2 {path})"
        )
    return lines


@dataclass(frozen=True)
class GenerateLog:
    """What `fairseq-generate` printed, in the order of the corpus.

    Attributes:
        hypotheses: The best translation of every sentence, detokenised as the log has it, with byte
            pieces (``<0xF0>``) joined as `tsa-mt translate` joins them.
        targets: The targets it printed, passed through the dictionary; empty if there were none.
        sources: The sources it printed, likewise.
    """

    hypotheses: List[str]
    targets: List[str]
    sources: List[str] = field(default_factory=list)


def read_generate_log(paths: Sequence[PathLike]) -> GenerateLog:
    """Collects the translations from logs of `fairseq-generate` or `fairseq-interactive`.

    Args:
        paths: The log, or the logs of the shards that one corpus was decoded in.

    Raises:
        FileNotFoundError: A log does not exist.
        ValueError: A log has no ``D-`` lines, a sentence is missing, or one occurs twice.
    """
    found: Dict[str, Dict[int, str]] = {"D": {}, "H": {}, "S": {}, "T": {}}
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
    targets, sources = (
        [found[kind][n] for n in order] if set(order) == set(found[kind]) else [] for kind in "TS"
    )
    return GenerateLog([hypotheses[number] for number in order], targets, sources)


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
        text = match[3] if kind in "ST" else match[3].partition("\t")[2]
        found[kind].setdefault(number, text if kind == "H" else join_bytes_in_text(text))
    return size


def _some(numbers: List[int]) -> str:
    text = ", ".join(map(str, numbers[:5]))
    return f"ids {text}" + (", ..." if len(numbers) > 5 else "")


def subword_traces(lines: Sequence[str]) -> Optional[str]:
    """A warning if lines hold byte pieces, or a tenth of them subword pieces, else ``None``."""
    spelt = sum(has_bytes(line) for line in lines)
    if spelt:
        return (
            f"{spelt:,} of {len(lines):,} hypotheses contain byte pieces such as <0xF0>, which "
            f"spell characters that the vocabulary lacks; give the log itself with --generate-log, "
            f"where they are joined"
        )
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


def tokeniser_needed(references: Sequence[Sequence[str]], tokenize: str) -> Optional[str]:
    """A warning if BLEU's tokeniser finds no words in the script of the references, else ``None``.

    Args:
        references: Sets of references.
        tokenize: Name of the tokeniser.
    """
    needed = scoring_tokeniser(chain.from_iterable(references))
    if needed is None or tokenize not in SPACED:
        return None
    package = {"ja-mecab": "ja", "ko-mecab": "ko"}.get(needed)
    install = f" (pip install 'sacrebleu[{package}]')" if package else ""
    return (
        f"BLEU with the tokeniser {tokenize} counts what stands between spaces, which are no words "
        f"in the script of the references; use --tokenize {needed}{install}, or chrF"
    )
