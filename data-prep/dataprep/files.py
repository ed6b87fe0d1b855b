"""How steps note what they have done, on top of the project's way to write and read a file."""

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Optional

from tsa_mt import files
from tsa_mt.files import BLOCK, digest, read_lines, whole, write_lines

__all__ = [
    "BLOCK",
    "digest",
    "key_of",
    "read_json",
    "read_lines",
    "whole",
    "write_json",
    "write_lines",
]


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values give equal bytes."""
    files.write_json(path, value, sort=True)


def read_json(path: Path) -> Optional[Dict[str, Any]]:
    """Read a JSON object, or None where there is none (or none that can be read)."""
    try:
        return files.read_object(path)
    except (FileNotFoundError, ValueError):
        return None


def key_of(*values: Any) -> str:
    """A short name for a combination of JSON values: equal values, equal name."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
