"""Text to pieces and back, with the subword model that a model was trained on."""

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Type

from sentencepiece import SentencePieceProcessor

from tsa_mt.byte_pieces import join_bytes
from tsa_mt.characters import decode_references, tidy
from tsa_mt.export.companions import BPE_CODES, SENTENCEPIECE
from tsa_mt.export.pieces import JOINT, META

# C0 and C1 controls and Unicode's own line ends: white space that would break lines or columns.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Replaces control characters by spaces and lone surrogates, which no UTF-8 has, by U+FFFD."""
    return SURROGATE.sub("\ufffd", CONTROL.sub(" ", text))


class Codec(ABC):
    """Text to pieces and back.

    Attributes:
        languages: Source and target, ``None`` where they are not known.
    """

    languages: Tuple[Optional[str], Optional[str]] = (None, None)

    def encode(self, text: str) -> List[str]:
        """The pieces of a text, tidied as training text is; none if nothing can be seen of it."""
        return self.split(tidy(SURROGATE.sub("\ufffd", text)))

    def decode(self, pieces: Sequence[str]) -> str:
        """The text that pieces spell, on one line."""
        return clean(self.join(list(pieces))).strip()

    @abstractmethod
    def split(self, text: str) -> List[str]:
        """The pieces of a text without control characters."""

    @abstractmethod
    def join(self, pieces: List[str]) -> str:
        """The text that pieces spell."""


class Words(Codec):
    """Words between spaces, for a model without a subword model."""

    def split(self, text: str) -> List[str]:
        """See `Codec.split`."""
        return text.split()

    def join(self, pieces: List[str]) -> str:
        """See `Codec.join`."""
        return " ".join(pieces)


class SentencePiece(Codec):
    """Pieces of a SentencePiece model.

    Args:
        path: Model of the source language. Pieces spell their text without it.
    """

    def __init__(self, path: Path):
        self.processor = SentencePieceProcessor(model_file=str(path))

    def encode(self, text: str) -> List[str]:
        """See `Codec.encode`; ``&amp;`` and the like are characters, as in training text."""
        return super().encode(decode_references(text))

    def split(self, text: str) -> List[str]:
        """See `Codec.split`."""
        return self.processor.encode(text, out_type=str)

    def join(self, pieces: List[str]) -> str:
        """See `Codec.join`."""
        return join_bytes(pieces).replace(META, " ")


class SubwordNmt(Codec):
    """Pieces of subword-nmt's byte-pair encoding; its text is what training text was, tokenised.

    Args:
        path: The codes of the source language.

    Raises:
        ValueError: subword-nmt is not installed.
    """

    def __init__(self, path: Path):
        try:
            from subword_nmt.apply_bpe import BPE
        except ImportError as error:
            raise ValueError(
                "subword-nmt is not installed; install it with: pip install 'tsa-mt[data]'"
            ) from error
        with open(path, encoding="utf-8") as codes:
            self.bpe = BPE(codes)

    def split(self, text: str) -> List[str]:
        """See `Codec.split`."""
        return self.bpe.process_line(text).split()

    def join(self, pieces: List[str]) -> str:
        """See `Codec.join`."""
        return (" ".join(pieces) + " ").replace(f"{JOINT} ", "")


class Missing(Codec):
    """Pieces that can be read but not made, because the subword model is not there.

    Args:
        kind: The codec that can read them.
        place: Where the model was looked for.
    """

    def __init__(self, kind: Type[Codec], place: Path):
        self.kind, self.place = kind, place

    def split(self, text: str) -> List[str]:
        """See `Codec.split`."""
        raise FileNotFoundError(
            f"the model reads {self.kind.__name__} pieces, and no such subword model was found in "
            f"or above {self.place}; name the folder that holds it with --data"
        )

    def join(self, pieces: List[str]) -> str:
        """See `Codec.join`."""
        return self.kind.join(self, pieces)


def find_codec(
    subwords: Dict[str, Path],
    languages: Tuple[Optional[str], Optional[str]],
    symbols: Sequence[str],
    place: Path,
) -> Codec:
    """The codec of a model.

    Args:
        subwords: The subword models found, by name, as in `Companions`.
        languages: Source and target language, which tell a pair of models apart.
        symbols: The source dictionary's symbols, which show what kind of pieces it holds.
        place: Where the models were looked for, for messages.

    Raises:
        ValueError: It cannot be told which of two models is the source's.
    """
    kind = _kind(symbols)
    if subwords:
        path = subwords.get(SENTENCEPIECE) or subwords.get(BPE_CODES)
        path = path or _tagged(subwords, languages)
        codec: Codec = SentencePiece(path) if path.suffix == ".model" else SubwordNmt(path)
    else:
        codec = Words() if kind is Words else Missing(kind, place)
    codec.languages = languages
    return codec


def _kind(symbols: Sequence[str]) -> Type[Codec]:
    """What made these pieces, by the marks that they bear."""
    if any(symbol.startswith(META) for symbol in symbols):
        return SentencePiece
    if any(symbol.endswith(JOINT) for symbol in symbols):
        return SubwordNmt
    return Words


def _tagged(subwords: Dict[str, Path], languages: Tuple[Optional[str], Optional[str]]) -> Path:
    """The subword model whose name has the source language in it."""
    for name, path in subwords.items():
        if languages[0] in name.split("."):
            return path
    raise ValueError(
        f"cannot tell which of the subword models {', '.join(subwords)} is the source's; keep it "
        f"there as {SENTENCEPIECE} or {BPE_CODES}"
    )
