"""Sentences too long for a model, divided where it hurts least."""

from typing import List, Sequence

SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "؟", "।", ";", ":")
LEAST = 0.5
"""A part is filled to this share at least before it may end, so that parts do not get tiny."""


def divide(pieces: Sequence[str], size: int) -> List[List[str]]:
    """Cuts pieces into consecutive parts.

    A part ends after the last piece that ends a sentence, else before the last piece that begins a
    word, else where it is full.

    Args:
        pieces: The pieces of one sentence.
        size: Most pieces of a part.

    Returns:
        Parts that together are ``pieces``; none for no pieces.
    """
    rest = list(pieces)
    parts = []
    while len(rest) > size:
        end = _end(rest, size)
        parts.append(rest[:end])
        rest = rest[end:]
    return parts + [rest] if rest else parts


def _end(pieces: List[str], size: int) -> int:
    """Where the first part ends, from 1 to ``size``."""
    candidates = range(size, max(1, int(size * LEAST)) - 1, -1)
    for fits in (_after_sentence, _before_word):
        for end in candidates:
            if fits(pieces, end):
                return end
    return size


def _after_sentence(pieces: List[str], end: int) -> bool:
    return pieces[end - 1].endswith(SENTENCE_ENDS) and _before_word(pieces, end)


def _before_word(pieces: List[str], end: int) -> bool:
    """Whether a word ends there: in SentencePiece's notation, in subword-nmt's, or in none."""
    if any(piece.startswith("▁") for piece in pieces):
        return pieces[end].startswith("▁")
    return not pieces[end - 1].endswith("@@")
