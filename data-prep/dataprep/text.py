"""The text that models are trained on, before subwords: `text/{split}.{language}`.

Held-out splits are taken from the training text here, and training pairs are found of which a side
is in a validation or test set. Each file comes with a list of byte ranges, so that workers can read
it in pieces later on, and with a checksum, so that later steps know whether anything changed.
"""

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from dataprep.errors import DataError
from dataprep.files import read_lines, whole
from dataprep.recipe import HoldOut
from dataprep.tokenise import read_kept


class _Writer:
    """Writes one split's files and notes where chunks of lines begin."""

    def __init__(self, files: Sequence[Any], chunk: int) -> None:
        self.files, self.chunk = files, chunk
        self.lines, self.ranges = 0, []
        self._since, self._starts = 0, [0] * len(files)
        self.hashes = [sha256() for _ in files]

    def write(self, sides: Sequence[List[str]]) -> None:
        for file, lines, digest in zip(self.files, sides, self.hashes, strict=True):
            data = "".join(f"{line}\n" for line in lines).encode()
            digest.update(data)
            file.write(data)
        self.lines += len(sides[0])
        self._since += len(sides[0])
        if self._since >= self.chunk:
            self.cut()

    def cut(self) -> None:
        if self._since:
            ends = [file.tell() for file in self.files]
            self.ranges.append([self._since, *map(list, zip(self._starts, ends, strict=True))])
            self._since, self._starts = 0, ends


class HeldOut:
    """The sentences of validation and test sets, to find them in training text.

    Attributes:
        found: How many training pairs hold one, by split and side: ``valid source`` ...
    """

    def __init__(self) -> None:
        self.sides: Dict[str, Tuple[Set[str], Set[str]]] = {}
        self.found: Counter = Counter()

    def add(self, split: str, sides: Sequence[List[str]]) -> None:
        """Remember the sentences of a split, as training text spells them; empty ones are none."""
        for known, lines in zip(self.sides.setdefault(split, (set(), set())), sides, strict=True):
            known.update(lines)
            known.discard("")

    def without(self, sides: Sequence[List[str]], keep: bool) -> Sequence[List[str]]:
        """Count the pairs of some training text that hold one, and leave them out or not."""
        sources, targets = (set().union(*known) for known in zip(*self.sides.values()))
        inside = [s in sources or t in targets for s, t in zip(*sides, strict=True)]
        for number, bad in enumerate(inside):
            if bad:
                self.found[self._which(sides[0][number], sides[1][number])] += 1
        if keep or not any(inside):
            return sides
        return [[line for line, bad in zip(lines, inside) if not bad] for lines in sides]

    def _which(self, source: str, target: str) -> str:
        for split, (sources, targets) in self.sides.items():
            if source in sources or target in targets:
                both = source in sources and target in targets
                side = "both" if both else "source" if source in sources else "target"
                return f"{split} {side}"
        raise KeyError((source, target))


def fitted(hold: HoldOut, lines: int) -> HoldOut:
    """The same rule with as many thousandths as give `at_least` lines, up to a tenth of them."""
    if hold.per_mille is None:
        return hold
    needed = -(-1000 * hold.at_least // max(1, lines))
    return replace(hold, per_mille=max(hold.per_mille, min(100, needed)))


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


def read_held_out(
    known: HeldOut,
    split: str,
    paths: Sequence[Path],
    spell: Sequence[Callable[[List[str]], List[str]]],
) -> None:
    """Remember a finished split.

    Args:
        known: Where to.
        split: Its name.
        paths: Source and target.
        spell: For each side, the function that spells lines as training text does.
    """
    known.add(split, [f(read_lines(path)) for f, path in zip(spell, paths, strict=True)])


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
    known: Optional[HeldOut] = None,
    keep: bool = False,
) -> Dict[str, Any]:
    """Write a split's text and that of the splits held out of it.

    Pairs that hold a sentence of another split stay, too, where nothing else would.

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
        known: Sentences of other splits to find in this one, if it is training text.
        keep: Whether pairs that hold such a sentence stay.

    Returns:
        ``splits``: for each ``lines``, ``ranges`` (lines, and first and last byte per language) and
        ``sha256`` of both files; ``found``: the counts of `HeldOut`; ``kept``: whether they stay.

    Raises:
        DataError: A split would be empty.
    """
    known = HeldOut() if known is None else known
    names = [split, *holders]
    paths = [folder / f"{name}.{code}" for name in names for code in languages]

    def dealt() -> Iterator[Dict[str, List[List[str]]]]:
        number = 0
        for part, _ in parts:
            sides = [read_kept(inputs, part, code, masks) for code in languages]
            yield _dealt(split, holders, number, sides, languages)
            number += len(sides[0])

    for sides in dealt() if holders else ():
        for name in holders:
            known.add(name, sides[name])
    with ExitStack() as stack:
        files = {p: stack.enter_context(open(stack.enter_context(whole(p)), "wb")) for p in paths}
        writers = {
            name: _Writer([files[folder / f"{name}.{code}"] for code in languages], chunk)
            for name in names
        }
        for sides, (_, lines) in zip(dealt(), parts, strict=True):
            if known.sides:
                sides[split] = known.without(sides[split], keep)
            for name, own in sides.items():
                writers[name].write(own)
            bar.update(lines)
        for writer in writers.values():
            writer.cut()
        empty = next((name for name, writer in writers.items() if not writer.lines), None)
    if empty == split and known.found and not keep:
        known.found.clear()
        return write_text(
            inputs, masks, parts, split, holders, folder, languages, chunk, bar, known, keep=True
        )
    if empty is not None:
        for path in paths:
            path.unlink()
        total = sum(lines for _, lines in parts)
        raise DataError(
            f"{empty} has no lines: all were left out, or {total:,} lines are too few to hold some "
            "out; see the counts above and the recipe"
        )
    splits = {
        name: {"lines": w.lines, "ranges": w.ranges, "sha256": [h.hexdigest() for h in w.hashes]}
        for name, w in writers.items()
    }
    return {"splits": splits, "found": dict(known.found), "kept": keep}
