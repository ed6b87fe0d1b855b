"""Whether a subword model makes the pieces of a dictionary.

A folder may hold the subword model of another project. All its pieces are then unknown words to the
model, and nothing but the translations tells.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from sentencepiece import SentencePieceProcessor

META = "▁"
JOINT = "@@"
SHARE = 0.9
"""Least share of a dictionary's pieces that its subword model makes.

The rest are characters that the subword model never saw, and what was added by hand."""

_SPECIAL = re.compile(r"<.+>|madeupword\d{4}")


def share_made(model: Path, symbols: Iterable[str]) -> float:
    """Compute the share of a dictionary's pieces that a subword model can make.

    Args:
        model: A SentencePiece model, or codes of subword-nmt.
        symbols: The symbols of the dictionary. Those of one character tell models apart badly and
            do not count, nor do special symbols.

    Returns:
        From 0 to 1; 1 where no symbol counts.
    """
    pieces = [symbol for symbol in symbols if not _SPECIAL.fullmatch(symbol)]
    pieces = [piece for piece in pieces if len(piece.strip(META).removesuffix(JOINT)) > 1]
    made = _sentencepiece(model) if model.suffix == ".model" else _merged(model)
    return sum(piece in made for piece in pieces) / len(pieces) if pieces else 1.0


def is_sentencepiece(path: Path) -> bool:
    """Tell whether a file can be loaded as a SentencePiece model."""
    try:
        SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError):
        return False
    return True


def _sentencepiece(path: Path) -> set[str]:
    model = SentencePieceProcessor(model_file=str(path))
    return {model.id_to_piece(number) for number in range(len(model))}


def _merged(path: Path) -> set[str]:
    """What the merges of subword-nmt make: within a word with its mark, at the end without."""
    made = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        left, _, right = line.strip().partition(" ")
        piece = left + right
        made.add(piece.removesuffix("</w>") if piece.endswith("</w>") else piece + JOINT)
    return made
