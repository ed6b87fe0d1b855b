"""The one way in which this project writes files, and how it reads and hashes them.

A file is written next to its place and then renamed. A reader sees the old content or the new one,
never a part of it, also when the process is killed. A link is followed, and a file that is replaced
keeps its mode. A device, a pipe or ``/dev/stdout`` cannot be replaced: the bytes go through it.

Text is UTF-8. A file name need not be: Python holds its odd bytes as lone surrogates. In text and
in JSON these are written as ``\\udcXX``, which a reader of JSON turns into the same name again.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

PathLike = str | os.PathLike[str]

PARTIAL = ".partial"  # ends the name of a file that is being written
BLOCK = 1 << 20
LINKS = 40  # as many links in a row as Linux follows


class FileError(OSError):
    """A file that cannot be read or written: ``errno``, and one sentence for people."""

    def __str__(self) -> str:
        """Give the sentence alone."""
        return self.strerror or super().__str__()


@contextlib.contextmanager
def whole(path: PathLike, durable: bool = False) -> Iterator[Path]:
    """Give a path to fill. It becomes ``path`` when the block ends without an error.

    Args:
        path: Destination. Its folder must exist.
        durable: Wait until the disk has the file. For files whose loss costs a run.

    Yields:
        A path in the same folder. Nothing is there yet.

    Raises:
        FileError: The destination cannot be written. It is as it was before.
    """
    place = _place(Path(path))
    if place is None:
        with _copied_through(path) as temporary:
            yield temporary
        return
    temporary = place.with_name(_partial_name(place.name))
    with _in_a_sentence(path, temporary):
        try:
            mode = _mode_to_keep(place)
            yield temporary
            if mode is not None:
                temporary.chmod(mode)
            if durable:
                _sync(temporary)
            os.replace(temporary, place)
            if durable:
                _sync(place.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: PathLike, durable: bool = False) -> Iterator[BinaryIO]:
    """Give a stream of bytes to write. The file is there when the block ends without an error.

    Into a device or a pipe the bytes go while they are written.

    Args:
        path: Destination. Its folder must exist.
        durable: Wait until the disk has the file.

    Raises:
        FileError: The destination cannot be written. It is as it was before.
    """
    if _place(Path(path)) is None:
        # appending, because /dev/stdout may be a file that holds something already
        with _in_a_sentence(path), open(path, "ab") as stream:
            yield stream
        return
    with whole(path, durable) as temporary, open(temporary, "wb") as stream:
        yield stream


def write_text(path: PathLike, text: str, durable: bool = False) -> None:
    """Write text as UTF-8 with its line ends as they are.

    Raises:
        FileError: The file cannot be written.
    """
    with writing(path, durable) as stream:
        stream.write(text.encode(errors="backslashreplace"))


def write_lines(path: PathLike, lines: Iterable[str], durable: bool = False) -> None:
    """Write lines as UTF-8, each ended by a line feed.

    Raises:
        FileError: The file cannot be written.
    """
    with writing(path, durable) as stream:
        stream.writelines(f"{line}\n".encode() for line in lines)


def write_json(path: PathLike, value: Any, sort: bool = False, durable: bool = False) -> None:
    """Write a value as JSON.

    Args:
        path: Destination.
        value: What `json` can write. Infinity and NaN are not JSON.
        sort: Sort the keys, so that equal values give equal bytes.
        durable: Wait until the disk has the file.

    Raises:
        FileError: The file cannot be written.
        ValueError: The value holds something that JSON cannot hold.
    """
    try:
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=sort)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be written as JSON: {error}") from error
    write_text(path, text + "\n", durable)


def read_json(path: PathLike) -> Any:
    """Read JSON.

    Raises:
        FileNotFoundError: There is no such file.
        FileError: It cannot be read.
        ValueError: It is not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist") from None
    except OSError as error:
        raise FileError(error.errno, f"{path} cannot be read: {_reason(error)}") from error
    except (ValueError, RecursionError) as error:  # of the encoding, the syntax and the depth
        raise ValueError(f"{path} is damaged, it is not JSON: {error}") from error


def read_object(path: PathLike) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: There is no such file.
        FileError: It cannot be read.
        ValueError: It is not JSON, or another kind of value.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it holds a {type(value).__name__}, not an object")
    return value


def read_lines(path: PathLike, start: int = 0, stop: int | None = None) -> list[str]:
    """Read the lines between two byte offsets. Only a line feed ends a line."""
    with open(path, "rb") as stream:
        stream.seek(start)
        data = stream.read() if stop is None else stream.read(stop - start)
    lines = data.decode().split("\n")
    return lines if lines[-1] else lines[:-1]


def is_replaced(path: PathLike) -> bool:
    """Whether writing there replaces a file, unlike a device, a pipe or a name that is free."""
    place = _place(Path(path))
    return place is not None and place.exists()


def digest(path: PathLike, algorithm: str = "sha256") -> str:
    """Compute the checksum of a file, as hexadecimal digits."""
    value = hashlib.new(algorithm)
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            value.update(block)
    return value.hexdigest()


def _place(path: Path) -> Path | None:
    """Follow links to the file that is to be replaced. ``None`` where bytes go through instead."""
    for _ in range(LINKS):
        if os.path.realpath(path.parent).startswith("/proc/"):
            return None  # a descriptor of a process: its file must stay the one that is open
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
    else:
        raise FileError(errno.ELOOP, f"{path} cannot be written: {os.strerror(errno.ELOOP)}")
    if path.is_dir():
        raise FileError(errno.EISDIR, f"{path} cannot be written: it is a folder, name a file")
    return path if path.is_file() or not path.exists() else None


def _partial_name(name: str) -> str:
    """Name a file that is being written, so that what a dead process left can be told by it."""
    # of the 255 bytes that a name may have, 30 characters take at most 120 and a host 64
    owner = f"{socket.gethostname()[:64]}.{os.getpid()}"
    return f".{name[:30]}.{secrets.token_hex(4)}.{owner}{PARTIAL}"


def sweep(folder: PathLike, names: str) -> list[Path]:
    """Remove what processes of this machine were writing when they were killed.

    Args:
        folder: Where to look.
        names: Pattern of the names of the files that were written, such as ``checkpoint*``.

    Returns:
        What was removed.
    """
    host = re.escape(socket.gethostname()[:64])
    left = re.compile(rf".*\.[0-9a-f]{{8}}\.{host}\.(\d+){re.escape(PARTIAL)}")
    found = []
    for path in Path(folder).glob(f".{names}{PARTIAL}"):
        match = left.fullmatch(path.name)
        if match and not is_alive(int(match[1])):
            path.unlink(missing_ok=True)
            found.append(path)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _mode_to_keep(place: Path) -> int | None:
    """Give the mode of the file that is replaced. Refuse to replace one that is read-only."""
    if not place.exists():
        return None
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
    return place.stat().st_mode & 0o7777


@contextlib.contextmanager
def _copied_through(path: PathLike) -> Iterator[Path]:
    """Give a path elsewhere to fill, for a library that wants a path, and pass its bytes on."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, "content")
        yield temporary
        with open(temporary, "rb") as content, writing(path) as stream:
            shutil.copyfileobj(content, stream)


@contextlib.contextmanager
def _in_a_sentence(*own: PathLike) -> Iterator[None]:
    """Turn the operating system's errors about the first of our files into a sentence.

    Errors that name another file, or that no system call gave, pass.
    """
    try:
        yield
    except OSError as error:
        known = error.filename is None or str(error.filename) in map(str, own)
        if isinstance(error, FileError) or error.errno is None or not known:
            raise
        reason = f"{own[0]} cannot be written: {_reason(error)}"
        raise FileError(error.errno, reason) from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
