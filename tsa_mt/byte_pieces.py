"""Byte pieces, ``<0xF0>``, with which SentencePiece spells what its vocabulary lacks.

fairseq prints them as they are. Every reader of pieces or of fairseq's logs joins them here, so
that a translation reads, scores and compares as the text that it is.
"""

import re
from collections.abc import Sequence

_BYTE = re.compile("<0x([0-9A-F]{2})>")
_RUN = re.compile("(?:<0x[0-9A-F]{2}>)+")


def join_bytes(pieces: Sequence[str]) -> str:
    """The text of pieces in a row, with the characters that runs of byte pieces encode.

    Bytes that are not UTF-8 become U+FFFD.
    """
    joined: list[str] = []
    run = bytearray()
    for piece in [*pieces, ""]:
        byte = _BYTE.fullmatch(piece)
        if byte:
            run.append(int(byte[1], 16))
            continue
        joined += [run.decode("utf-8", errors="replace"), piece]
        run.clear()
    return "".join(joined)


def join_bytes_in_text(text: str) -> str:
    """The same for pieces that are joined already, as in a ``D-`` line of fairseq-generate."""
    if "<0x" not in text:
        return text
    return _RUN.sub(lambda run: join_bytes([f"{piece}>" for piece in run[0].split(">")[:-1]]), text)


def has_bytes(text: str) -> bool:
    """Whether a byte piece occurs in a text."""
    return _RUN.search(text) is not None
