"""What a text file is, told by its first bytes, and its text as UTF-8.

A name says little about a file: ``dev.de`` may be gzip, UTF-16 from a spreadsheet, a pipe, or the
web page of a host that has moved. Everything here that reads sentences opens them with `open_text`,
so that one file is the same text to every command. docs/reference/files.md lists what is read and
what is refused.
"""

import bz2
import codecs
import contextlib
import gzip
import io
import json
import lzma
import re
import zlib
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Iterator, List, Optional, Union

BLOCK = 1 << 20
HEAD = 1 << 12
"""Bytes that are read at a time, and that are looked at to tell what a file is."""
MAX_HEAD = 1 << 16
MAX_LINE_BYTES = 1_000_000
"""Longer "sentences" are unsplit documents or binary data."""
MAX_CONTENT = 1 << 28
"""Most bytes of what is held in memory as a whole."""
NESTED = 3
"""Times that a file may be compressed one over the other."""

PLAIN, SGML, TMX = "plain text", "SGML", "TMX"
"""What a `Text` can hold."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NOT_TEXT = (
    (b"PK\x03\x04", "a zip archive or an office document; unpack it"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"Rar!\x1a\x07", "a rar archive; unpack it"),
    (b"\x04\x22\x4d\x18", "compressed by lz4; decompress it"),
    (b"\x1f\x9d", "compressed by compress; decompress it"),
    (b"LZIP", "compressed by lzip; decompress it"),
    (b"%PDF-", "a PDF document; save it as plain text"),
    (b"{\\rtf", "an RTF document; save it as plain text"),
    (b"\xd0\xcf\x11\xe0", "an old office document; save it as plain text"),
    (b"PAR1", "a Parquet table; write its columns as text"),
    (b"ARROW1", "an Arrow table; write its columns as text"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"SQLite format 3", "an SQLite database"),
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS; run git lfs pull for it"),
)
_ROOTS = {
    **dict.fromkeys(("srcset", "refset", "tstset", "hypset", "mteval"), SGML),
    "tmx": TMX,
}
_FOREIGN_ROOTS = {
    "html": "a web page",
    "dataset": "XML with sources, references and systems of a WMT test set in one file; take out "
    "the side you need as text",
    "xliff": "an XLIFF document; export it as TMX",
}
_PROLOGUE = re.compile(
    r"\s*(?:<\?.*?\?>|<!--.*?-->|<!doctype\s+(?P<doctype>[\w.:-]+)[^<>\[]*(?:\[.*?\]\s*)?>)",
    re.DOTALL | re.IGNORECASE,
)
_ROOT = re.compile(r"\s*<(?:[\w.-]+:)?([A-Za-z][\w.-]*)(?=[\s>/])")
_UNFINISHED = re.compile(r"\s*(?:<(?:[?!][^>]*|!--.*)?)?\Z", re.DOTALL)
_DECLARED = re.compile(rb"\s*<\?xml[^>]*?\sencoding\s*=\s*[\"']([A-Za-z][\w.:-]*)[\"']")


class TextError(ValueError):
    """A file does not hold the text it was named for; the message is one sentence for people."""


class Text:
    """An open text file; a context manager that closes it.

    Args:
        name: What messages call it.
        kind: `PLAIN`, `SGML` or `TMX`.
        stream: Its text as UTF-8, decompressed and without a byte-order mark.
        encoding: What it was encoded as.
    """

    def __init__(self, name: str, kind: str, stream: Any, encoding: str):
        self.name, self.kind, self.stream, self.encoding = name, kind, stream, encoding

    def __enter__(self) -> "Text":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def pieces(self) -> Iterator[bytes]:
        """Its bytes, some at a time.

        Raises:
            TextError: The file is damaged, or not in the encoding that it begins with.
        """
        with _damage_told(self.name):
            while data := self.stream.read(BLOCK):
                yield data

    def blocks(self, carriage_returns: bool = False) -> Iterator[List[str]]:
        """Its lines, a list at a time; a line ends at LF or CR LF and nowhere else.

        Args:
            carriage_returns: Whether one within a line becomes a space instead of an error.

        Raises:
            TextError: A line is no UTF-8 or no sentence, or the file is damaged.
        """
        number, rest = 0, b""
        for data in self.pieces():
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            yield _checked(lines, number, self.name, carriage_returns, rest)
            number += len(lines)
        if rest:
            yield _checked([rest], number, self.name, carriage_returns and number > 0, b"")

    def content(self) -> str:
        """All of it at once.

        Raises:
            TextError: It is no UTF-8, damaged, or larger than `MAX_CONTENT`.
        """
        data = bytearray()
        for piece in self.pieces():
            data += piece
            if len(data) > MAX_CONTENT:
                raise TextError(
                    f"{self.name} holds more than {MAX_CONTENT:,} bytes; {self.kind} of that size "
                    "is not read"
                )
        try:
            return data.decode()
        except UnicodeDecodeError as fault:
            raise _not_utf8(self.name, data.count(b"\n", 0, fault.start) + 1, data, fault) from None


def open_text(
    path: Union[str, PathLike], name: Optional[str] = None, any_bytes: bool = False
) -> Text:
    """Opens a text file of any kind: plain or compressed, a regular file or a pipe.

    Args:
        path: The file.
        name: What messages call it (default: the path).
        any_bytes: Whether plain text may have as many NUL bytes as it likes, and look like JSON or
            a web page.

    Raises:
        FileNotFoundError: There is no such file.
        TextError: It is a folder, or no text.
    """
    name = str(path) if name is None else name
    try:
        stream = open(path, "rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"{name} does not exist") from None
    except IsADirectoryError:
        raise TextError(f"{name} is a folder; name a file") from None
    try:
        return open_stream(stream, name, any_bytes)
    except BaseException:
        stream.close()
        raise


def open_stream(stream: Any, name: str, any_bytes: bool = False) -> Text:
    """Tells what an open stream of bytes holds; see `open_text`.

    Of a pipe no more is waited for than its first line, unless that is only the beginning of an
    XML prologue.
    """
    with _damage_told(name):
        stream, head = _decompressed(stream, name)
        mark, encoding = _encoding(head, name, any_bytes)
        if encoding != "utf-8":
            stream.read(len(mark))
            stream = io.BufferedReader(_Recoded(stream, encoding, name), BLOCK)
            stream, head = _peeked(stream)
        elif mark:
            stream.read(len(mark))
            head = head[len(mark) :]
        return Text(name, _kind(head, name, any_bytes), stream, encoding)


def open_bytes(path: Path) -> BinaryIO:
    """Opens a plain, gzip, xz, bzip2 or zstd file or pipe, whatever its name says.

    Raises:
        TextError: It is damaged, or zstandard is not installed.
    """
    with _damage_told(str(path)):
        return _decompressed(open(path, "rb"), str(path))[0]


def refuse_wrapped(path: Path) -> None:
    """Refuses a file that others must read as it lies, such as a dictionary of fairseq's.

    Raises:
        TextError: It is compressed, has a byte-order mark or another encoding, or is no plain text.
    """
    with open_text(path) as text, open(path, "rb") as stream:
        plain = text.kind == PLAIN and text.stream.read(HEAD) == stream.read(HEAD)
    if not plain:
        raise TextError(
            f"{path} is compressed, has a byte-order mark, or is no plain text, and it is read as "
            "it lies; write it as plain UTF-8 text"
        )


def looks_like_html(path: Path) -> bool:
    """Whether a file begins like a web page, which is what broken hosts send in place of data."""
    with open(path, "rb") as stream:
        head = stream.read(HEAD).removeprefix(codecs.BOM_UTF8)
    return _root(head.decode(errors="replace"))[0] == "html"


# -- bytes


class _Peeked(io.RawIOBase):
    """A stream whose first bytes were read to look at them."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self.head, self.stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.head or self.stream.read1(len(buffer))
        data, self.head = data[: len(buffer)], self.head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.stream.close()
        super().close()


def _peeked(stream: Any) -> "tuple[BinaryIO, bytes]":
    """A stream, and its first bytes, which it still gives."""
    head = b""
    # going back within a compressed stream would begin it anew, which a pipe cannot
    plain = isinstance(stream, io.BufferedReader) and stream.seekable()
    start = stream.tell() if plain else None
    while len(head) < MAX_HEAD and not _enough(head):
        data = stream.read1(HEAD)
        if not data:
            break
        head += data
    if start is not None:
        stream.seek(start)
        return stream, head
    return io.BufferedReader(_Peeked(head, stream), BLOCK), head


def _enough(head: bytes) -> bool:
    """Whether these bytes tell what follows."""
    if b"\n" not in head and len(head) < HEAD:
        return False
    name, whole = _root(head.decode(errors="replace"))
    return name is not None or whole


def _decompressed(stream: Any, name: str) -> "tuple[BinaryIO, bytes]":
    """The stream below all compression, and its first bytes."""
    for _ in range(NESTED + 1):
        stream, head = _peeked(stream)
        opener = next((o for magic, o in _COMPRESSED if _begins(head, magic)), None)
        if opener is None:
            return stream, head
        opened = opener(stream, name)
        stream = opened if hasattr(opened, "read1") else io.BufferedReader(opened, BLOCK)
    raise TextError(f"{name} is compressed more than {NESTED} times over; decompress it")


def _begins(head: bytes, magic: bytes) -> bool:
    """Whether more than the magic bytes is there: alone they are text as odd as any other."""
    return head.startswith(magic) and len(head) > len(magic)


def _gzip(stream: Any, name: str) -> Any:
    return gzip.GzipFile(fileobj=stream, mode="rb")


def _xz(stream: Any, name: str) -> Any:
    return lzma.LZMAFile(stream)


def _bzip2(stream: Any, name: str) -> Any:
    return bz2.BZ2File(stream)


def _zstd(stream: Any, name: str) -> BinaryIO:
    try:
        import zstandard
    except ImportError:
        raise TextError(
            f"{name} is zstd-compressed, which needs the package zstandard: "
            "install the project's extra [data], or decompress the file"
        ) from None
    return io.BufferedReader(_Zstd(stream, zstandard.ZstdDecompressor()), BLOCK)


_COMPRESSED = (
    (b"\x1f\x8b", _gzip),
    (b"\xfd7zXZ\x00", _xz),
    (b"\x5d\x00\x00", _xz),  # the older .lzma
    (b"BZh", _bzip2),
    (b"\x28\xb5\x2f\xfd", _zstd),
    *((bytes([n]) + b"\x2a\x4d\x18", _zstd) for n in range(0x50, 0x60)),  # skippable frames
)


class _Zstd(io.RawIOBase):
    """A zstd stream whose truncation is an error, as it is for gzip and xz."""

    def __init__(self, stream: Any, decompressor: Any) -> None:
        self._stream, self._decompressor = stream, decompressor
        self._frame: Any = None
        self._packed, self._text = b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._text:
            data = self._packed or self._stream.read(BLOCK)
            if not data:
                if self._frame is not None:
                    raise EOFError("the zstd frame does not end")
                return 0
            self._frame = self._frame or self._decompressor.decompressobj()
            self._text, self._packed = self._frame.decompress(data), b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        data, self._text = self._text[: len(buffer)], self._text[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextlib.contextmanager
def _damage_told(name: str) -> Iterator[None]:
    """Turns what decompressors say into one sentence."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as fault:
        raise TextError(f"{name} is cut off or damaged ({fault}); get it again") from None
    except OSError as fault:
        if fault.errno is not None:  # bzip2 gives its complaints no number
            raise
        raise TextError(f"{name} is cut off or damaged ({fault}); get it again") from None
    except Exception as fault:
        # zstandard's own error class, which is not imported where it is not needed
        if type(fault).__name__ != "ZstdError":
            raise
        raise TextError(f"{name} is cut off or damaged ({fault}); get it again") from None


# -- encodings


def _encoding(head: bytes, name: str, any_bytes: bool) -> "tuple[bytes, str]":
    """The byte-order mark, and the encoding that it or an XML declaration names; else UTF-8."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return mark, encoding
    _refuse_binary(head, name, any_bytes)
    declared = _DECLARED.match(head)
    encoding = declared[1].decode().lower() if declared else "utf-8"
    try:
        "".encode(encoding)
        encoding = codecs.lookup(encoding).name
    except (LookupError, UnicodeError):
        raise TextError(
            f"{name} declares the encoding {encoding!r}, which is not known; convert it to UTF-8"
        ) from None
    # what can be read as ASCII up to here is no UTF-16, whatever it says of itself
    return b"", "utf-8" if encoding.startswith(("utf-16", "utf-32", "ascii")) else encoding


def _refuse_binary(head: bytes, name: str, any_bytes: bool) -> None:
    what = next((what for magic, what in _NOT_TEXT if _begins(head, magic)), None)
    if head[257:262] == b"ustar":
        what = "a tar archive; unpack it"
    if what is not None:
        raise TextError(f"{name} is {what}")
    if _lacks_mark(head):
        raise TextError(
            f"{name} is UTF-16 or UTF-32 without a byte-order mark; convert it to UTF-8, e.g. by "
            "iconv -f UTF-16LE -t UTF-8"
        )
    if head.count(b"\0") * 20 > len(head) and not any_bytes:
        raise TextError(f"{name} is binary: it holds NUL bytes; give a text file")


def _lacks_mark(head: bytes) -> bool:
    """Whether NUL bytes stand as they do in UTF-16 and UTF-32: at every second or fourth place."""
    nul = [head[place::4].count(b"\0") * 4 / max(1, len(head)) for place in range(4)]
    often, seldom = [share > 0.4 for share in nul], [share < 0.1 for share in nul]
    patterns = ((1, 3), (0, 2), (1, 2, 3), (0, 1, 2))
    return len(head) > 15 and any(
        all(often[p] if p in pattern else seldom[p] for p in range(4)) for pattern in patterns
    )


class _Recoded(io.RawIOBase):
    """The text of another encoding as UTF-8."""

    def __init__(self, stream: Any, encoding: str, name: str) -> None:
        self._stream, self._encoding, self._name = stream, encoding, name
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._lines, self._text, self._ended = 1, b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._text and not self._ended:
            data = self._stream.read1(BLOCK)
            self._ended = not data
            self._text = self._decoded(data).encode()
            self._lines += self._text.count(b"\n")
        data, self._text = self._text[: len(buffer)], self._text[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def _decoded(self, data: bytes) -> str:
        try:
            return self._decoder.decode(data, final=not data)
        except UnicodeError as fault:
            good = getattr(fault, "object", b"")[: getattr(fault, "start", 0)]
            line = self._lines + good.decode(self._encoding, errors="replace").count("\n")
            raise TextError(
                f"{self._name}, line {line}, is not {self._encoding.upper()}, the encoding that "
                "the file begins with or declares; convert it to UTF-8, e.g. by iconv"
            ) from None

    def close(self) -> None:
        self._stream.close()
        super().close()


# -- kinds


def _root(head: str) -> "tuple[Optional[str], bool]":
    """The name of the element that markup begins with, and whether what was read can tell it.

    A doctype names it, too. Text without markup has none.
    """
    position, xml = 0, False
    while found := _PROLOGUE.match(head, position):
        position, xml = found.end(), True
        if found["doctype"]:
            return found["doctype"].lower(), True
    root = _ROOT.match(head, position)
    if root:
        return root[1].lower(), True
    return None, not _UNFINISHED.match(head, position) or (not xml and not head.lstrip()[:1] == "<")


def _kind(head: bytes, name: str, any_bytes: bool) -> str:
    """What the first bytes of UTF-8 say a file is.

    Raises:
        TextError: It is something that no command reads.
    """
    text = head.decode(errors="replace")
    root = _root(text)[0]
    if root in _ROOTS:
        return _ROOTS[root]
    if any_bytes:
        return PLAIN
    if root in _FOREIGN_ROOTS:
        raise TextError(f"{name} is {_FOREIGN_ROOTS[root]}")
    if root is not None and text.lstrip().startswith("<?xml"):
        raise TextError(
            f"{name} is XML with the root element {root!r}; plain text, SGML and TMX are read"
        )
    if _is_json(text.lstrip().split("\n")[0]):
        raise TextError(f"{name} holds JSON; write its sentences as text, one a line")
    return PLAIN


def _is_json(line: str) -> bool:
    if not line.startswith('{"'):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


# -- lines


def _checked(
    lines: List[bytes], number: int, name: str, carriage_returns: bool, rest: bytes
) -> List[str]:
    """Decodes lines that follow line `number`, or says what is wrong with the first bad one."""
    longest = max(map(len, lines), default=0)
    if max(longest, len(rest)) > MAX_LINE_BYTES:
        line = next((i for i, v in enumerate(lines) if len(v) > MAX_LINE_BYTES), len(lines))
        raise TextError(
            f"{name}, line {number + line + 1}, is longer than {MAX_LINE_BYTES:,} bytes: "
            "that is no sentence; split or remove it"
        )
    joined = b"\n".join(lines)
    if b"\r" in joined:
        joined = joined.replace(b"\r\n", b"\n").removesuffix(b"\r")
        if b"\r" in joined and not carriage_returns:
            line = joined.count(b"\n", 0, joined.index(b"\r"))
            raise TextError(
                f"{name}, line {number + line + 1}, holds a carriage return that is no line end "
                "(or the line ends are those of an old Mac); remove or convert it, e.g. by "
                "mac2unix, or set carriage_returns: true for it"
            )
        joined = joined.replace(b"\r", b" ")
    try:
        return joined.decode().split("\n") if lines else []
    except UnicodeDecodeError as fault:
        line = joined.count(b"\n", 0, fault.start)
        raise _not_utf8(name, number + line + 1, joined, fault) from None


def _not_utf8(
    name: str, line: int, data: bytes | bytearray, fault: UnicodeDecodeError
) -> TextError:
    return TextError(
        f"{name}, line {line}, is not UTF-8 (byte 0x{data[fault.start]:02x}); "
        "convert the file, e.g. by iconv, or remove the line"
    )
