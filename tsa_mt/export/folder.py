"""A folder that appears whole or not at all."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Tuple

from tsa_mt import files
from tsa_mt.files import PathLike

README = "README.md"


@contextmanager
def new_folder(out: PathLike, model_file: str, force: bool = False) -> Iterator[Path]:
    """Gives a folder to fill; when the block ends without an error it becomes ``out``.

    The folder is filled beside its destination and renamed, so whoever looks at ``out`` sees
    nothing, or everything, also if the process is killed.

    Args:
        out: Destination. An empty folder may be there already.
        model_file: The file by which an earlier export of the same kind is recognised: ``force``
            replaces only such a folder, never one that holds anything else.
        force: Replace an earlier export.

    Yields:
        The folder to fill.

    Raises:
        FileExistsError: ``out`` exists and may not be replaced.
    """
    out = Path(out)
    refuse_existing(out, model_file, force)
    parent = out.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=parent))
    try:
        yield partial
        partial.chmod(0o777 & ~umask())  # mkdtemp's folders are private
        _settle(partial, parent / out.resolve().name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_existing(out: PathLike, model_file: str, force: bool) -> None:
    """Raises unless ``out`` may be written: it is absent, empty, or an export and ``force`` is set.

    Raises:
        FileExistsError: Says which of these is not so.
    """
    out = Path(out)
    if not out.exists():
        return
    if not out.is_dir():
        raise FileExistsError(f"{out} is a file; name a folder to write")
    contents = list(out.iterdir())
    if not contents:
        return
    if not force:
        raise FileExistsError(f"{out} exists and is not empty; pass --force to replace it")
    names = {path.name for path in contents}
    if not {model_file, README} <= names or any(path.is_dir() for path in contents):
        raise FileExistsError(
            f"{out} is not an earlier export of this kind (no {model_file} and {README}, or "
            f"folders inside), so --force does not delete it; choose another folder"
        )


def _settle(partial: Path, out: Path) -> None:
    """Renames ``partial`` to ``out``; an earlier folder is put aside first and deleted after."""
    aside = None
    if out.exists() and any(out.iterdir()):
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
        os.replace(out, aside)
    try:
        os.replace(partial, out)
    except OSError:
        if aside is not None:
            os.replace(aside, out)
        raise
    if aside is not None:
        shutil.rmtree(aside)


def umask() -> int:
    """The process's file mode creation mask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def digest(folder: PathLike) -> List[Tuple[str, int, str]]:
    """Name, size in bytes and SHA-256 of every file in a folder, by name."""
    found = sorted(path for path in Path(folder).iterdir() if path.is_file())
    return [(path.name, path.stat().st_size, files.digest(path)) for path in found]
