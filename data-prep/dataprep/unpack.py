"""Archive members, one at a time, to places that this program chooses.

Nothing in an archive decides where a file lands: a member is copied to the path derived from the
recipe. Archives with members that point outside, wanted members that are links, and members
larger than the recipe's limit are refused.
"""

import tarfile
import zipfile
import zlib
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Dict, Iterator, Optional

from dataprep.errors import DataError
from dataprep.files import BLOCK, whole
from dataprep.pool import progress

ENDINGS = (".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar", ".zip")


def archive_stem(name: str) -> Optional[str]:
    """An archive's name without its ending, or None if the name is not that of an archive."""
    ending = next((e for e in ENDINGS if name.lower().endswith(e)), None)
    return None if ending is None else name[: -len(ending)]


def unpack(archive: Path, wanted: Dict[str, Path], limit: int) -> None:
    """Copy members of an archive to given paths.

    Args:
        archive: A tar (gz, xz, bz2) or zip file.
        wanted: Paths by member name.
        limit: Most bytes that one member may have.

    Raises:
        DataError: The archive is damaged or unsafe, or a member is missing or too large.
    """
    try:
        reader = _zip if zipfile.is_zipfile(archive) else _tar
        found = set()
        for name, size, stream in reader(archive, wanted):
            _copy(stream, wanted[name], limit, f"{archive.name}//{name}", size)
            found.add(name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, LZMAError) as fault:
        raise DataError(
            f"{archive.name} is cut off or no archive ({fault}); delete it and get it again"
        ) from None
    missing = sorted(set(wanted) - found)
    if missing:
        raise DataError(
            f"{archive.name} does not hold {', '.join(missing)}; is it another release of the "
            "corpus?"
        )


def _plain(archive: Path, name: str) -> str:
    """The member's name without ``./``, refused if it points outside of the archive."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise DataError(
            f"{archive.name} holds the member {name!r}, which points outside of the archive; "
            "it is not safe and nothing more was unpacked"
        )
    return str(path)


def _link(archive: Path, name: str) -> DataError:
    return DataError(
        f"{archive.name}//{name} is a link or a device, not a file; it is not safe to unpack"
    )


def _tar(archive: Path, wanted: Dict[str, Path]) -> Iterator[tuple]:
    left = set(wanted)
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            name = _plain(archive, member.name)
            if name in left:
                if not member.isreg():
                    raise _link(archive, name)
                left.discard(name)
                yield name, member.size, tar.extractfile(member)


def _zip(archive: Path, wanted: Dict[str, Path]) -> Iterator[tuple]:
    with zipfile.ZipFile(archive) as bundle:
        for member in bundle.infolist():
            name = _plain(archive, member.filename)
            if name in wanted:
                if (member.external_attr >> 16) & 0o170000 == 0o120000 or member.is_dir():
                    raise _link(archive, name)
                with bundle.open(member) as stream:
                    yield name, member.file_size, stream


def _copy(stream: IO[bytes], path: Path, limit: int, name: str, total: int) -> None:
    """Copy a member; `total` is what the archive claims its size to be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with (
        progress("unpack", total, "B") as bar,
        whole(path) as temporary,
        open(temporary, "wb") as out,
    ):
        while data := stream.read(BLOCK):
            size += len(data)
            if size > limit:
                raise DataError(
                    f"{name} unpacks to more than {limit:,} bytes; if that is right, raise "
                    "unpack_limit_gb in the recipe"
                )
            out.write(data)
            bar.update(len(data))
