"""Reading text of any origin: decompressed by content, checked line by line, never held whole.

What cannot be trained on is refused with the file and the line: bytes that are not UTF-8, carriage
returns, lines too long to be a sentence, archives that end early.
"""

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Iterator, List

from dataprep.errors import DataError
from dataprep.files import BLOCK

# Longer "sentences" are unsplit documents or binary data.
MAX_LINE_BYTES = 1_000_000

HTML_STARTS = (b"<!doctype html", b"<html")


def looks_like_html(path: Path) -> bool:
    """Whether a file starts like a web page, which is what broken hosts send in place of data."""
    with open(path, "rb") as stream:
        return stream.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(HTML_STARTS)


def open_bytes(path: Path) -> BinaryIO:
    """Open a plain, gzip, xz, bzip2 or zstd file, whatever its name says."""
    with open(path, "rb") as stream:
        magic = stream.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(path, "rb")
    if magic.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(path, "rb")
    if magic.startswith(b"BZh"):
        return bz2.open(path, "rb")
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return _open_zstd(path)
    return open(path, "rb")


def _open_zstd(path: Path) -> BinaryIO:
    try:
        import zstandard
    except ImportError:
        raise DataError(
            f"{path} is zstd-compressed, which needs the package zstandard: "
            "install the project's extra [data], or decompress the file"
        ) from None
    return _Zstd(path, zstandard.ZstdDecompressor())


class _Zstd(io.RawIOBase):
    """A zstd file whose truncation is an error, as it is for gzip and xz."""

    def __init__(self, path: Path, decompressor: Any) -> None:
        self._file, self._decompressor = open(path, "rb"), decompressor
        self._frame, self._left = decompressor.decompressobj(), b""

    def read(self, size: int = -1) -> bytes:
        """Decompress the next block, whatever its size; empty at the end."""
        while True:
            data = self._left or self._file.read(BLOCK)
            if not data:
                if self._frame is not None:
                    raise EOFError("the zstd frame does not end")
                return b""
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            text = self._frame.decompress(data)
            self._left = b""
            if self._frame.eof:
                self._left, self._frame = self._frame.unused_data, None
            if text:
                return text

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def blocks(path: Path, name: str, carriage_returns: bool = False) -> Iterator[List[str]]:
    """Read the lines of a text file, a list at a time.

    Args:
        path: The file, compressed or not.
        name: What errors call it.
        carriage_returns: Whether they become spaces instead of an error.

    Raises:
        DataError: The file is no UTF-8 text of sentences, or it is damaged.
    """
    number, rest = 0, b""
    for data in _pieces(path, name):
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        yield _checked(lines, number, name, carriage_returns, rest)
        number += len(lines)
    if rest:
        yield _checked([rest], number, name, carriage_returns, b"")
    elif number == 0:
        raise DataError(f"{name} is empty; get it again")


def _pieces(path: Path, name: str) -> Iterator[bytes]:
    try:
        with open_bytes(path) as stream:
            while data := stream.read(BLOCK):
                yield data
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as fault:
        raise DataError(f"{name} is cut off or damaged ({fault}); get it again") from None
    except Exception as fault:
        # zstandard's own error class, which is not imported where it is not needed
        if type(fault).__name__ != "ZstdError":
            raise
        raise DataError(f"{name} is cut off or damaged ({fault}); get it again") from None


def _checked(
    lines: List[bytes], number: int, name: str, carriage_returns: bool, rest: bytes
) -> List[str]:
    """Decode lines that follow line `number`, or say what is wrong with the first bad one."""
    longest = max(map(len, lines), default=0)
    if max(longest, len(rest)) > MAX_LINE_BYTES:
        line = next((i for i, v in enumerate(lines) if len(v) > MAX_LINE_BYTES), len(lines))
        raise DataError(
            f"{name}, line {number + line + 1}, is longer than {MAX_LINE_BYTES:,} bytes: "
            "that is no sentence; split or remove it"
        )
    joined = b"\n".join(lines)
    if b"\r" in joined:
        if not carriage_returns:
            line = next(i for i, v in enumerate(lines) if b"\r" in v)
            raise DataError(
                f"{name}, line {number + line + 1}, holds a carriage return (Windows or old Mac "
                "line ends); convert it, e.g. by dos2unix, or set carriage_returns: true for it"
            )
        joined = joined.replace(b"\r", b" ")
    try:
        return joined.decode().split("\n") if lines else []
    except UnicodeDecodeError as fault:
        line = joined.count(b"\n", 0, fault.start)
        raise DataError(
            f"{name}, line {number + line + 1}, is not UTF-8 (byte 0x{joined[fault.start]:02x}); "
            "convert the file, e.g. by iconv, or remove the line"
        ) from None
