"""Which training pairs were seen before, in at most 16 bytes of memory per pair.

The fingerprints (8 bytes each) are sorted in place; those that occur more than once make a sorted
table of at most half as many entries. A second walk, in the corpus' order, marks every occurrence
but the first.
"""

from pathlib import Path
from typing import List

import numpy as np

from dataprep.files import whole


def mark(hash_folder: Path, folder: Path, names: List[str]) -> List[int]:
    """Write ``{name}.keep`` (one byte per pair) for every part that loses pairs.

    Args:
        hash_folder: Holds ``{name}.hashes``.
        folder: Where the masks go.
        names: Parts, in the corpus' order.

    Returns:
        How many pairs each part loses.
    """
    repeated = _repeated(hash_folder, names)
    seen = np.zeros(len(repeated), dtype=bool)
    lost = []
    for name in names:
        keep = _first_occurrences(_load(hash_folder, name), repeated, seen)
        lost.append(int(len(keep) - keep.sum()))
        if lost[-1]:
            with whole(folder / f"{name}.keep") as path:
                keep.tofile(path)
    return lost


def _load(folder: Path, name: str) -> np.ndarray:
    return np.fromfile(folder / f"{name}.hashes", dtype=np.uint64)


def _repeated(folder: Path, names: List[str]) -> np.ndarray:
    """Sorted fingerprints that occur more than once."""
    sizes = [(folder / f"{name}.hashes").stat().st_size // 8 for name in names]
    everything = np.empty(sum(sizes), dtype=np.uint64)
    position = 0
    for name, size in zip(names, sizes, strict=True):
        everything[position : position + size] = _load(folder, name)
        position += size
    everything.sort()
    second = everything[1:] == everything[:-1]
    # of three or more equal ones only the second is wanted, so that the table has each once
    second[1:] &= everything[1:-1] != everything[:-2]
    return everything[1:][second]


def _first_occurrences(values: np.ndarray, repeated: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Mask of values that were not seen before; marks the repeated ones as seen."""
    keep = np.ones(len(values), dtype=bool)
    if len(repeated) == 0:
        return keep
    place = np.minimum(np.searchsorted(repeated, values), len(repeated) - 1)
    rows = np.flatnonzero(repeated[place] == values)
    table = place[rows]
    first = np.zeros(len(rows), dtype=bool)
    first[np.unique(table, return_index=True)[1]] = True
    keep[rows] = first & ~seen[table]
    seen[table] = True
    return keep
