"""The text that models are trained on, before subwords: `text/{split}.{language}`.

Held-out splits are taken from the training text here, in one walk over its parts. Each file comes
with a list of byte ranges, so that workers can read it in pieces later on.
"""

from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from dataprep.errors import DataError
from dataprep.files import whole
from dataprep.recipe import HoldOut
from dataprep.tokenise import read_kept


class _Writer:
    """Writes one split's files and notes where chunks of lines begin."""

    def __init__(self, files: Sequence[Any], chunk: int) -> None:
        self.files, self.chunk = files, chunk
        self.lines, self.ranges = 0, []
        self._since, self._starts = 0, [0] * len(files)

    def write(self, sides: Sequence[List[str]]) -> None:
        for file, lines in zip(self.files, sides, strict=True):
            file.write("".join(f"{line}\n" for line in lines).encode())
        self.lines += len(sides[0])
        self._since += len(sides[0])
        if self._since >= self.chunk:
            self.cut()

    def cut(self) -> None:
        if self._since:
            ends = [file.tell() for file in self.files]
            self.ranges.append([self._since, *map(list, zip(self._starts, ends, strict=True))])
            self._since, self._starts = 0, ends


def split_of(
    holders: Dict[str, HoldOut], number: int, pair: Tuple[str, str], languages: List[str]
) -> str:
    """Which split line `number` (from 1) of the training text belongs to."""
    bucket = None
    for name, hold in holders.items():
        if hold.every is not None and number % hold.every == 0:
            return name
        if hold.per_mille is not None:
            if bucket is None:
                key = pair[languages.index(hold.by)] if hold.by else "\n".join(pair)
                bucket = int.from_bytes(blake2b(key.encode(), digest_size=4).digest(), "big") % 1000
            if bucket < hold.per_mille:
                return name
            bucket -= hold.per_mille
    return "train"


def _dealt(
    split: str,
    holders: Dict[str, HoldOut],
    start: int,
    sides: List[List[str]],
    languages: List[str],
) -> Dict[str, List[List[str]]]:
    """Deal the lines of a part out to the splits."""
    if not holders:
        return {split: sides}
    dealt: Dict[str, List[List[str]]] = {name: [[], []] for name in (split, *holders)}
    for number, pair in enumerate(zip(*sides, strict=True), start + 1):
        chosen = dealt[split_of(holders, number, pair, languages)]
        for lines, line in zip(chosen, pair, strict=True):
            lines.append(line)
    return dealt


def write_text(
    inputs: Path,
    masks: Optional[Path],
    parts: List[Tuple[str, int]],
    split: str,
    holders: Dict[str, HoldOut],
    folder: Path,
    languages: List[str],
    chunk: int,
    bar: Any,
) -> Dict[str, Any]:
    """Write a split's text and that of the splits held out of it.

    Args:
        inputs: Folder of the parts.
        masks: Folder of the duplicates' masks, or None.
        parts: Names of the parts, and the lines to advance the bar by.
        split: Name of the split.
        holders: Splits to hold out, by name.
        folder: Where the text goes.
        languages: Source and target.
        chunk: Fewest lines between two noted positions.
        bar: Progress bar.

    Returns:
        For each split ``lines`` and ``ranges``: lines, and first and last byte per language.

    Raises:
        DataError: A split would be empty.
    """
    names = [split, *holders]
    paths = [folder / f"{name}.{code}" for name in names for code in languages]
    number = 0
    with ExitStack() as stack:
        files = {p: stack.enter_context(open(stack.enter_context(whole(p)), "wb")) for p in paths}
        writers = {
            name: _Writer([files[folder / f"{name}.{code}"] for code in languages], chunk)
            for name in names
        }
        for part, lines in parts:
            sides = [read_kept(inputs, part, code, masks) for code in languages]
            for name, dealt in _dealt(split, holders, number, sides, languages).items():
                writers[name].write(dealt)
            number += len(sides[0])
            bar.update(lines)
        for name, writer in writers.items():
            writer.cut()
            if not writer.lines:
                raise DataError(
                    f"{name} has no lines: all were left out, or {number:,} lines are too few to "
                    "hold some out; see the counts above and the recipe"
                )
    return {n: {"lines": w.lines, "ranges": w.ranges} for n, w in writers.items()}
