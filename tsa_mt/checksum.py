"""Whether a checkpoint is what was written: every part of it carries a checksum of its own.

``torch.save`` writes a zip archive and the CRC-32 of each of its members. ``torch.load`` does not
look at them: a flipped byte of a tensor loads without a word. Checking them needs no file beside
the checkpoint, holds for every checkpoint of the last years, and leaves it as fairseq knows it.
"""

import functools
import os
import zipfile
import zlib
from pathlib import Path
from typing import Optional, Union

ZIP, PICKLE = b"PK\x03\x04", b"\x80"
"""First bytes of what ``torch.save`` writes, and of what it wrote before PyTorch 1.6."""
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class DamagedCheckpoint(ValueError):
    """A checkpoint is not what was written."""


def find_damage(path: Union[str, Path]) -> Optional[str]:
    """What is wrong with a checkpoint, in words; ``None`` for an intact one.

    A file in the format before PyTorch 1.6 has no checksum and counts as intact.

    Args:
        path: The file. An unchanged file is read once in the life of the process.

    Raises:
        OSError: The file cannot be read.
    """
    status = os.stat(path)
    return _find_damage(os.fspath(path), status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _find_damage(path: str, inode: int, size: int, time: int) -> Optional[str]:
    with open(path, "rb") as file:
        head = file.read(len(ZIP))
    if head != ZIP:
        return None if head.startswith(PICKLE) else "it does not begin as a checkpoint does"
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except UNREADABLE as error:
        return f"it is cut short or overwritten: {error}"
    return part and f"its part {part} does not match its checksum"


def check(path: Union[str, Path]) -> None:
    """Refuses a damaged checkpoint.

    Raises:
        DamagedCheckpoint: The file is not what was written.
        OSError: The file cannot be read.
    """
    damage = find_damage(path)
    if damage:
        raise DamagedCheckpoint(
            f"checkpoint {path} is damaged, {damage}; take another one or copy it anew"
        )
