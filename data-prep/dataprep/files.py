"""Files that are either whole or absent, and the few ways in which steps read and write them."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

BLOCK = 1 << 20


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block ends without an exception."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_lines(path: Path, lines: List[str]) -> None:
    """Write lines as UTF-8, each ended by LF."""
    with whole(path) as temporary, open(temporary, "wb") as stream:
        stream.write("".join(f"{line}\n" for line in lines).encode())


def read_lines(path: Path, start: int = 0, stop: Optional[int] = None) -> List[str]:
    """Read the lines between two byte offsets; only LF ends a line."""
    with open(path, "rb") as stream:
        stream.seek(start)
        data = stream.read() if stop is None else stream.read(stop - start)
    return data.decode().split("\n")[:-1]


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values give equal bytes."""
    with whole(path) as temporary:
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Optional[Dict[str, Any]]:
    """Read a JSON object, or None where there is none (or none that can be read)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file as hexadecimal digits."""
    with open(path, "rb") as stream:
        return (
            hashlib.file_digest(stream, algorithm).hexdigest()
            if hasattr(hashlib, "file_digest")
            else _digest(stream, algorithm)
        )


def _digest(stream: Any, algorithm: str) -> str:
    value = hashlib.new(algorithm)
    while block := stream.read(BLOCK):
        value.update(block)
    return value.hexdigest()


def key_of(*values: Any) -> str:
    """A short name for a combination of JSON values: equal values, equal name."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
