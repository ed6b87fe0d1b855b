"""Sentences too long for a model, divided where it hurts least."""

from typing import Callable, List, Sequence

SENTENCE_ENDS = (".", "!", "?", "…", ";", ":", "。", "！", "？", "؟", "।")
LEAST = 0.5
"""A part is filled to this share at least before it may end, so that parts do not get tiny."""


def divide(pieces: Sequence[str], size: int) -> List[List[str]]:
    """Cuts pieces into consecutive parts.

    A part ends after the last word that ends a sentence, else after the last whole word, else where
    it is full.

    Args:
        pieces: The pieces of one sentence.
        size: Most pieces of a part.

    Returns:
        Parts that together are ``pieces``; none for no pieces.
    """
    word_ends_before = _word_boundary(pieces)
    parts = []
    start = 0
    while start < len(pieces):
        end = len(pieces)
        if end - start > size:
            end = _end(pieces, start, size, word_ends_before)
        parts.append(list(pieces[start:end]))
        start = end
    return parts


def _end(
    pieces: Sequence[str], start: int, size: int, word_ends_before: Callable[[int], bool]
) -> int:
    """Where the part that begins at ``start`` ends."""
    last = start + size
    words = [end for end in range(last, start + int(size * LEAST), -1) if word_ends_before(end)]
    sentences = (end for end in words if pieces[end - 1].endswith(SENTENCE_ENDS))
    return next(sentences, words[0] if words else last)


def _word_boundary(pieces: Sequence[str]) -> Callable[[int], bool]:
    """Tells whether a word ends before a piece, by the marks of SentencePiece or subword-nmt."""
    if any(piece.startswith("▁") for piece in pieces):
        return lambda index: pieces[index].startswith("▁")
    return lambda index: not pieces[index - 1].endswith("@@")
