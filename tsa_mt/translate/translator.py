"""What all translators share: batches by length, the order of the input, and sentences too long."""

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, List, Sequence, Tuple

from tsa_mt.translate.parts import divide
from tsa_mt.translate.subwords import Codec

logger = logging.getLogger(__name__)

Scored = Tuple[Sequence[str], float]
"""Pieces of a translation and its score."""

# Words in a source that a dictionary would take for its own symbols; a text means none of them.
RESERVED = frozenset({"<s>", "</s>", "<pad>", "<blank>"})


@dataclass(frozen=True)
class Hypothesis:
    """One translation of one sentence.

    Attributes:
        tokens: Subword pieces, without the end symbol.
        text: The text that the pieces spell.
        score: Log probability (natural) of the pieces and the end symbol, divided by their number
            to the power of the length penalty.
    """

    tokens: Tuple[str, ...]
    text: str
    score: float


EMPTY = Hypothesis((), "", 0.0)
"""The translation of a sentence without pieces, which no model is asked about."""


@dataclass(frozen=True)
class Decoding:
    """How to search; the defaults are those of ``fairseq-generate --beam 5``.

    Attributes:
        beam: Hypotheses that are followed at a time.
        lenpen: Length penalty: above 1 favours long translations, below 1 short ones.
        batch_tokens: Most tokens of a batch of sources, padding and end symbols included, unless a
            single sentence is longer.
        max_length: Most pieces of a translation, the end symbol not counted.
        min_length: Fewest pieces of a translation.
    """

    beam: int = 5
    lenpen: float = 1.0
    batch_tokens: int = 4000
    max_length: int = 200
    min_length: int = 1

    def __post_init__(self):
        for name in ("beam", "batch_tokens", "max_length", "min_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.min_length > self.max_length:
            raise ValueError(
                f"min_length is {self.min_length}, more than max_length, {self.max_length}"
            )


class Translator(ABC):
    """A loaded model with its subword model.

    A format's reader makes a subclass that implements `decode_batch`.

    Args:
        codec: Turns text into pieces and pieces into text.
        decoding: How to search.
        limit: Most pieces that the model reads, the end symbol not counted.

    Attributes:
        on_long: Called for every sentence that is longer than ``limit`` with its index, its number
            of pieces and the number of parts it is translated in; logs a warning unless replaced.
        on_batch: Called after every batch with its number of parts; does nothing unless replaced.
        compute_type: Type of number that is computed with, which need not be the stored one.
    """

    compute_type = "float32"

    def __init__(self, codec: Codec, decoding: Decoding, limit: int):
        self.codec, self.decoding, self.limit = codec, decoding, limit
        self.on_long: Callable[[int, int, int], None] = _warn_of_length
        self.on_batch: Callable[[int], object] = _ignore

    @abstractmethod
    def decode_batch(self, sentences: Sequence[Sequence[str]]) -> List[List[Scored]]:
        """Decodes sentences of similar length together.

        Args:
            sentences: Pieces of each; at least one, at most ``limit``, none of them `RESERVED`.

        Returns:
            For every sentence up to ``beam`` pairs of pieces and score, the best first.
        """

    def decode_batches(
        self, batches: Iterable[Sequence[Sequence[str]]]
    ) -> Iterable[List[List[Scored]]]:
        """Decodes batches in their order; a format that can do several at once overrides it."""
        return map(self.decode_batch, batches)

    def translate(self, lines: Sequence[str], n_best: int = 1) -> List[List[Hypothesis]]:
        """Translates raw text.

        Args:
            lines: One sentence each. Control characters and line separators count as spaces.
            n_best: Hypotheses per line, at most the beam size.

        Returns:
            The hypotheses of every line, the best first. A line without visible characters has
            ``n_best`` empty ones.

        Raises:
            FileNotFoundError: The model reads subwords, and its subword model was not found.
            ValueError: ``n_best`` is not possible.
        """
        return self.translate_tokens([self.codec.encode(line) for line in lines], n_best)

    def translate_tokens(
        self, sentences: Sequence[Sequence[str]], n_best: int = 1
    ) -> List[List[Hypothesis]]:
        """Translates pieces, in batches of similar length.

        Args:
            sentences: The pieces of each sentence, without an end symbol.
            n_best: Hypotheses per sentence, at most the beam size.

        Returns:
            ``n_best`` hypotheses of every sentence, the best first, in the order of the input;
            fewer where the search found fewer.

        Raises:
            ValueError: ``n_best`` is not possible.
        """
        if not 1 <= n_best <= self.decoding.beam:
            raise ValueError(
                f"n_best is {n_best}; with a beam of {self.decoding.beam} it can be 1 to "
                f"{self.decoding.beam}"
            )
        parts, owners = self._divide(sentences)
        found: List[List[Hypothesis]] = [[] for _ in parts]
        groups = list(batches([len(part) for part in parts], self.decoding.batch_tokens))
        decodings = self.decode_batches([parts[number] for number in batch] for batch in groups)
        for batch, decoded in zip(groups, decodings, strict=True):
            for number, hypotheses in zip(batch, decoded, strict=True):
                found[number] = [self._hypothesis(*pair) for pair in hypotheses[:n_best]]
            self.on_batch(len(batch))
        return [
            self._join([found[number] for number in numbers]) or [EMPTY] * n_best
            for numbers in owners
        ]

    def _divide(self, sentences) -> Tuple[List[List[str]], List[range]]:
        """All parts in a row, and for every sentence the numbers of its own."""
        parts: List[List[str]] = []
        owners = []
        size = min(self.limit, self.decoding.max_length)
        for index, sentence in enumerate(sentences):
            pieces = ["<unk>" if piece in RESERVED else piece for piece in sentence]
            own = [pieces] if 0 < len(pieces) <= self.limit else divide(pieces, size)
            if len(pieces) > self.limit:
                self.on_long(index, len(pieces), len(own))
            owners.append(range(len(parts), len(parts) + len(own)))
            parts += own
        return parts, owners

    def _hypothesis(self, tokens: Sequence[str], score: float) -> Hypothesis:
        return Hypothesis(tuple(tokens), self.codec.decode(tokens), score)

    def _join(self, parts: List[List[Hypothesis]]) -> List[Hypothesis]:
        """The k-th best translations of all parts in a row; the score is their mean by length."""
        if len(parts) == 1:
            return parts[0]
        joined = []
        for row in zip(*parts, strict=False):
            weights = [len(part.tokens) + 1 for part in row]
            score = sum(w * part.score for w, part in zip(weights, row, strict=True)) / sum(weights)
            tokens = tuple(token for part in row for token in part.tokens)
            joined.append(Hypothesis(tokens, " ".join(part.text for part in row), score))
        return joined


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[List[int]]:
    """Groups sentences of similar length, the shortest first, as fairseq does.

    Args:
        lengths: Pieces of every sentence, without the end symbol.
        batch_tokens: Most tokens of a batch, with padding and end symbols; a sentence longer than
            that is a batch of its own.

    Yields:
        Indices into ``lengths``.
    """
    batch: List[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and (len(batch) + 1) * (lengths[index] + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _warn_of_length(index: int, pieces: int, parts: int) -> None:
    logger.warning(
        f"sentence {index} has {pieces} pieces, more than the model reads; it is translated in "
        f"{parts} parts"
    )


def _ignore(count: int) -> None:
    """The default of a callback."""
