"""Subword models, and text as numbers: SentencePiece or subword-nmt.

Encoded parts hold numbers into a list of types (pieces): for SentencePiece the model's own list,
for subword-nmt a list per part. Dictionaries come later, when all counts are known.
"""

import contextlib
import io
import os
import sys
from collections import Counter
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from dataprep.errors import DataError
from dataprep.files import read_json, read_lines, whole, write_json, write_lines
from dataprep.pool import progress
from dataprep.recipe import Bpe, Filters, SentencePiece, Subword
from tsa_mt.characters import other_letters

SENTENCEPIECE = "sentencepiece.bpe.model"
CODES = "bpe.codes"
# The model's bytes depend on the number of threads, so it is not the machine's.
THREADS = 8
# Lines from which the scripts of a text are told, and the share of letters that are neither Latin,
# Greek nor Cyrillic above which the text is left as it is.
SEEN, OTHER_SHARE = 20_000, 0.005


def model_name(settings: Subword) -> str:
    """File name of the model."""
    return SENTENCEPIECE if settings.sentencepiece else CODES


def sample(paths: Sequence[Path], lines: int, cap: int) -> Iterator[str]:
    """Every n-th line of some files, with n such that at most `cap` lines come out."""
    step = max(1, -(-lines // cap))
    number = 0
    with progress("learn subwords", lines, " lines") as bar:
        for path in paths:
            with open(path, "rb") as stream:
                for line in stream:
                    if number % step == 0:
                        bar.update(step)
                        yield line[:-1].decode()
                    number += 1


def learn_sentencepiece(
    settings: SentencePiece, paths: Sequence[Path], lines: int, model: Path
) -> Dict[str, Any]:
    """Learn a joint SentencePiece model from a sample of the training text.

    Raises:
        DataError: The vocabulary does not hold the text's characters, or a setting is wrong.
    """
    import sentencepiece

    rule = settings.normalisation or _fitting_rule(paths, lines)
    out = io.BytesIO()
    try:
        # a writer instead of a prefix: the prefix would be stored in the model
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sample(paths, lines, settings.sample),
            model_writer=out,
            vocab_size=settings.vocab_size,
            model_type=settings.model_type,
            character_coverage=settings.character_coverage,
            byte_fallback=settings.byte_fallback,
            hard_vocab_limit=False,
            normalization_rule_name=rule,
            num_threads=THREADS,
            minloglevel=2,
        )
    except RuntimeError as fault:
        raise DataError(
            f"SentencePiece could not learn {settings.vocab_size} pieces from {lines:,} lines: "
            f"{' '.join(str(fault).split())}. Set another vocab_size"
        ) from None
    with whole(model) as path:
        path.write_bytes(out.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue()).get_piece_size()
    step = max(1, -(-lines // settings.sample))
    return {"pieces": pieces, "learned_from": -(-lines // step), "normalisation": rule}


def _fitting_rule(paths: Sequence[Path], lines: int) -> str:
    """No normalisation where there are letters of other scripts than NFKC was made for."""
    seen = other_letters(list(sample(paths, lines, SEEN)))
    return "identity" if seen > OTHER_SHARE else "nmt_nfkc"


def count_words(path: Path, start: int, stop: int) -> Counter:
    """Count the words between two byte offsets, in the order of first occurrence."""
    words: Counter = Counter()
    for line in read_lines(path, start, stop):
        words.update(word for word in line.strip("\r\n ").split(" ") if word)
    return words


def learn_bpe(settings: Bpe, words: Counter, codes: Path) -> Dict[str, Any]:
    """Learn subword-nmt's merges from word counts, as its learn-bpe does from text.

    Raises:
        DataError: subword-nmt is not installed.
    """
    learner = _subword_nmt("learn_bpe")
    out = io.StringIO()
    counted = [f"{word} {count}" for word, count in words.items()]
    with _quiet_unless_watched():
        learner.learn_bpe(counted, out, settings.merges, is_dict=True)
    with whole(codes) as path:
        path.write_text(out.getvalue(), encoding="utf-8")
    return {"merges": out.getvalue().count("\n") - 1, "learned_from": sum(words.values())}


@contextlib.contextmanager
def _quiet_unless_watched() -> Iterator[None]:
    """Keep subword-nmt's own progress bar out of log files."""
    if sys.stderr.isatty():
        yield
    else:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            yield


def _subword_nmt(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"subword_nmt.{module}")
    except ImportError:
        raise DataError(
            "this preparation uses subword-nmt's byte-pair encoding; install the project's extra "
            "[data], or choose --preparation modern"
        ) from None


class SentencePieceEncoder:
    """Lines to numbers of the model's pieces."""

    def __init__(self, model: Path) -> None:
        """Load a model file."""
        import sentencepiece

        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(model))

    def numbers(self, lines: List[str]) -> Tuple[List[str], np.ndarray, np.ndarray]:
        """Types (none: they are the model's), numbers and lengths."""
        rows = self.processor.encode(lines, out_type=int, num_threads=1)
        lengths = np.fromiter(map(len, rows), dtype=np.int32, count=len(rows))
        flat = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(lengths.sum()))
        return [], flat, lengths

    def pieces(self, line: str) -> str:
        """The pieces of a line, separated by spaces."""
        return " ".join(self.processor.encode(line, out_type=str))

    @cached_property
    def types(self) -> List[str]:
        """All pieces of the model, by number."""
        return [self.processor.id_to_piece(i) for i in range(self.processor.get_piece_size())]


class BpeEncoder:
    """Lines to numbers of the subwords that occur in them."""

    def __init__(self, codes: Path) -> None:
        """Load a file of merges."""
        with open(codes, encoding="utf-8") as stream:
            self.bpe = _subword_nmt("apply_bpe").BPE(stream)

    def numbers(self, lines: List[str]) -> Tuple[List[str], np.ndarray, np.ndarray]:
        """Types in the order of first occurrence, numbers and lengths."""
        table: Dict[str, int] = {}
        process = self.bpe.process_line
        rows = [
            [table.setdefault(word, len(table)) for word in process(line).split()] for line in lines
        ]
        lengths = np.fromiter(map(len, rows), dtype=np.int32, count=len(rows))
        flat = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(lengths.sum()))
        return list(table), flat, lengths

    def pieces(self, line: str) -> str:
        """The subwords of a line, separated by spaces."""
        return self.bpe.process_line(line)


_encoders: Dict[Tuple[str, int], Any] = {}


def encoder(model: Path) -> Any:
    """The encoder of a model file, loaded once per process."""
    name = (str(model), model.stat().st_mtime_ns)
    if name not in _encoders:
        kind = SentencePieceEncoder if model.name == SENTENCEPIECE else BpeEncoder
        _encoders[name] = kind(model)
    return _encoders[name]


def shared_types(model: Path) -> List[str]:
    """The types that the numbers of all encoded parts stand for: a SentencePiece model's pieces.

    Empty for subword-nmt, where each part has its own list.
    """
    return encoder(model).types if model.name == SENTENCEPIECE else []


def encode_part(
    text: List[Path],
    span: List[Any],
    model: Path,
    folder: Path,
    name: str,
    settings: Subword,
    languages: List[str],
    training: bool,
) -> Dict[str, Any]:
    """Encode one stretch of the text, and if it is training text leave out pairs by length.

    Args:
        text: The two text files.
        span: First and last byte in each of them.
        model: Subword model.
        folder: Where ``{name}.{language}.{ids,lengths,types}`` go.
        name: Name of the part.
        settings: Limits in subwords.
        languages: Source and target.
        training: Whether the limits apply.

    Returns:
        ``in``, ``out``, ``dropped`` and for each language a histogram of lengths.
    """
    done = folder / f"{name}.json"
    if (record := read_json(done)) is not None:
        return record
    raw = [read_lines(path, *ends) for path, ends in zip(text, span, strict=True)]
    sides = [encoder(model).numbers(lines) for lines in raw]
    dropped: Dict[str, int] = {}
    if training:
        sides, dropped = drop_by_length(settings.filters, sides)
    for code, (types, flat, lengths) in zip(languages, sides, strict=True):
        _save(folder / f"{name}.{code}.ids", flat)
        _save(folder / f"{name}.{code}.lengths", lengths)
        if types:
            write_lines(folder / f"{name}.{code}.types", types)
    record = {
        "in": len(raw[0]),
        "out": len(sides[0][2]),
        "dropped": dict(dropped),
        "lengths": {
            code: np.bincount(lengths).tolist()
            for code, (_, _, lengths) in zip(languages, sides, strict=True)
        },
    }
    write_json(done, record)
    return record


def drop_by_length(
    filters: Filters, sides: List[Tuple[List[str], np.ndarray, np.ndarray]]
) -> Tuple[List[Tuple[List[str], np.ndarray, np.ndarray]], Dict[str, int]]:
    """Leave out encoded pairs by their numbers of subwords.

    Returns:
        The sides without them, and counts by rule.
    """
    shorter, longer = np.sort([lengths for _, _, lengths in sides], axis=0)
    keep = np.ones(len(shorter), dtype=bool)
    dropped = {}
    for name, limit, broken in (
        ("min_words", filters.min_words, lambda limit: shorter < limit),
        ("max_words", filters.max_words, lambda limit: longer > limit),
        ("word_ratio", filters.word_ratio, lambda limit: longer > limit * np.maximum(1, shorter)),
    ):
        if limit is not None:
            bad = keep & broken(limit)
            keep &= ~bad
            if bad.any():
                dropped[name] = int(bad.sum())
    if keep.all():
        return sides, dropped
    kept = [(t, flat[np.repeat(keep, lengths)], lengths[keep]) for t, flat, lengths in sides]
    return kept, dropped


def _save(path: Path, values: np.ndarray) -> None:
    with whole(path) as temporary:
        values.tofile(temporary)
