"""Reading and writing text by lines that nothing can break: only a line feed ends one."""

import io
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, List, Optional

from tsa_mt.files import writing
from tsa_mt.segments import read_segments
from tsa_mt.textfile import SGML, TMX, Text, TextError, open_stream, open_text

BOM = "\ufeff"


class Source:
    """The lines of a byte stream.

    Args:
        stream: What to read.

    Attributes:
        lines: Number of lines read so far.
        damaged: Number of those that had bytes which are no UTF-8; each such byte became U+FFFD.
    """

    def __init__(self, stream: BinaryIO):
        self.stream = stream
        self.lines = self.damaged = 0

    def windows(self, lines: int, size: int = 4_000_000) -> Iterator[List[str]]:
        """Yields the lines in lists, so that no more than a window is in memory.

        Args:
            lines: Most lines of a window.
            size: A window is full when it has this many bytes.
        """
        window: List[str] = []
        room = size
        for raw in self.stream:
            window.append(self._decode(raw))
            room -= len(raw)
            if len(window) == lines or room <= 0:
                yield window
                window, room = [], size
        if window:
            yield window

    def _decode(self, raw: bytes) -> str:
        self.lines += 1
        raw = raw.removesuffix(b"\n")
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            self.damaged += 1
            line = raw.decode("utf-8", errors="replace")
        return line.removeprefix(BOM) if self.lines == 1 else line


@contextmanager
def open_source(path: Optional[Path]) -> Iterator[BinaryIO]:
    """The text of a file, or of standard input, as UTF-8: lines, or the segments of SGML.

    Raises:
        FileNotFoundError: There is no such file.
        TextError: It is no text, or a translation memory.
    """
    if path is None and sys.stdin.buffer.isatty():
        yield sys.stdin.buffer
        return
    if path is None:
        yield _sentences(open_stream(sys.stdin.buffer, "standard input", any_bytes=True))
        return
    with open_text(path, any_bytes=True) as text:
        yield _sentences(text)


def _sentences(text: Text) -> BinaryIO:
    """A stream of a sentence a line."""
    if text.kind == TMX:
        raise TextError(f"{text.name} is a translation memory (TMX); write its source side as text")
    if text.kind == SGML:
        return io.BytesIO(b"".join(f"{s.text}\n".encode() for s in read_segments(text)))
    return text.stream


@contextmanager
def open_target(path: Optional[Path]) -> Iterator[Callable[[List[str]], None]]:
    """A function that writes lines to a file, or to standard output.

    Raises:
        FileError: The file cannot be written.
    """
    if path is None:
        yield lambda lines: _write(sys.stdout.buffer, lines)
        return
    with writing(path) as stream:
        yield partial(_write, stream)


def _write(stream: BinaryIO, lines: List[str]) -> None:
    stream.write("".join(f"{line}\n" for line in lines).encode("utf-8"))
    stream.flush()
