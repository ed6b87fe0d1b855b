"""Sentence pairs out of the formats that corpora come in, into parts of plain text.

Each format is a function from files to pairs. A piece of a split is read by one worker; its parts
are ``{piece}-{part}.{language}``, one sentence per line.
"""

import re
from itertools import chain, islice
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union
from zlib import crc32

from dataprep import tmx
from dataprep.errors import DataError
from dataprep.files import read_json, write_json, write_lines
from tsa_mt.segments import read_segments
from tsa_mt.textfile import Text, open_text

Pairs = Iterator[Tuple[str, str]]
File = Tuple[Path, str]
"""A path, and what messages call it."""

QUOTED = re.compile(r'"(?:[^"]|"")*"')


def _opened(file: File) -> Text:
    path, name = file
    return open_text(path, name)


def _lines(text: Text, carriage_returns: bool) -> Iterator[str]:
    """The lines of a text, of which there must be some.

    Raises:
        DataError: There is none.
    """
    with text:
        blocks = text.blocks(carriage_returns)
        first = next(blocks, None)
        if first is None:
            raise DataError(f"{text.name} is empty; get it again")
        yield from chain(first, chain.from_iterable(blocks))


def plain(file: File, carriage_returns: bool, drop: Sequence[str] = ()) -> Iterator[str]:
    """One sentence per line; lines that hold one of the strings `drop` are none."""
    lines = _lines(_opened(file), carriage_returns)
    if not drop:
        return lines
    unwanted = re.compile("|".join(map(re.escape, drop)))
    return (line for line in lines if not unwanted.search(line))


def aligned(sides: Sequence[Iterator[str]], names: Sequence[str]) -> Pairs:
    """Pair the lines of two files.

    Raises:
        DataError: One has more lines than the other.
    """
    count, end = 0, object()
    while True:
        pair = tuple(next(side, end) for side in sides)
        if end in pair:
            break
        count += 1
        yield pair
    # what is left over: the line just read, and those after it
    rest = [int(value is not end) for value in pair]
    rest = [n + sum(1 for _ in side) for n, side in zip(rest, sides, strict=True)]
    if any(rest):
        raise DataError(
            f"{names[0]} has {count + rest[0]:,} lines and {names[1]} has {count + rest[1]:,}: "
            "they are not aligned, or one is cut off; get both again"
        )


def sgm(files: Sequence[File], references: bool) -> Pairs:
    """Pair the segments of two test sets in SGML or WIT3's XML, which is not well-formed.

    Args:
        files: Source and target.
        references: Whether ``&amp;`` and the like become characters.

    Raises:
        DataError: Their segments are not the same, or in another order.
    """
    texts = [_opened(file) for file in files]
    with texts[0], texts[1]:
        sides = [list(read_segments(text, references)) for text in texts]
    keys = [[(s.document, s.number) for s in side] for side in sides]
    if keys[0] != keys[1] and sorted(keys[0]) == sorted(keys[1]):
        place = next(i for i, (one, two) in enumerate(zip(*keys)) if one != two)
        raise DataError(
            f"{texts[0].name} and {texts[1].name} hold the same segments in another order: number "
            f"{place + 1} is {' '.join(keys[0][place])} in one and {' '.join(keys[1][place])} in "
            "the other; put them in one order"
        )
    yield from aligned(
        [iter([s.text for s in side]) for side in sides], [text.name for text in texts]
    )


def tsv(
    file: File, columns: Dict[str, Union[int, str]], languages: List[str], carriage_returns: bool
) -> Pairs:
    """One pair per line, in columns separated by tabs.

    Args:
        file: The table.
        columns: For each language the number of its column, from 0, or its name in the first line.
            Empty: the first line names the columns by language, or there are only the two.
        languages: Source and target.
        carriage_returns: Whether one within a line becomes a space.

    Raises:
        DataError: It is not known which columns to take, or a line has another number of them.
    """
    lines = _lines(_opened(file), carriage_returns)
    first = next(lines)
    names = first.split("\t")
    wanted, header = _columns(file[1], names, columns, languages)
    quoting = _Quoting(file[1])
    for number, line in enumerate(lines if header else chain([first], lines), 1 + header):
        cells = line.split("\t")
        if len(cells) != len(names):
            raise DataError(
                f"{file[1]}, line {number}, has {_count(len(cells), 'column')}, and the first line "
                f"has {len(names)}: a tab inside of a text, or a cell is missing; mend the line"
            )
        pair = cells[wanted[0]], cells[wanted[1]]
        if '"' in line:
            quoting.see(pair, number)
        yield pair
    quoting.refuse()


def _columns(
    name: str, cells: List[str], columns: Dict[str, Union[int, str]], languages: List[str]
) -> Tuple[List[int], bool]:
    """Which columns to take, and whether the first line is a header."""
    folded = [cell.strip().lower() for cell in cells]
    wanted = [columns.get(code) for code in languages]
    if not columns and all(folded.count(code.lower()) == 1 for code in languages):
        wanted = list(languages)
    if not columns and wanted == [None, None] and len(cells) == 2:
        wanted = [0, 1]
    shown = ", ".join(f"{i} {cell[:30]!r}" for i, cell in enumerate(cells, 1))
    if None in wanted:
        raise DataError(
            f"{name} has {_count(len(cells), 'column')} ({shown}), so it must be said which hold "
            f"{' and '.join(languages)}: --columns N N, their numbers from 1 or their names in the "
            "first line"
        )
    header = any(isinstance(column, str) for column in wanted)
    found = (
        [folded.index(c.lower()) if str(c).lower() in folded else c for c in wanted]
        if header
        else wanted
    )
    for column in found:
        if isinstance(column, str) or not 0 <= column < len(cells):
            what = f"called {column!r}" if isinstance(column, str) else f"{column + 1}"
            raise DataError(
                f"{name} has no column {what}; line 1 has {_count(len(cells), 'column')} separated "
                f"by tabs: {shown}"
            )
    return found, header


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


class _Quoting:
    """Whether the cells of a table are quoted as spreadsheets do it.

    They are if every cell with a quotation mark is enclosed in such marks and some have doubled
    ones inside. Then its text is not what the lines say, and cells may go over several lines.
    """

    def __init__(self, name: str) -> None:
        self.name, self.line, self.bare = name, 0, False

    def see(self, cells: Sequence[str], line: int) -> None:
        """Look at the cells of a line that holds a quotation mark."""
        for cell in cells if not self.bare else ():
            if '"' not in cell:
                continue
            if not QUOTED.fullmatch(cell):
                self.bare = True
            elif '""' in cell[1:-1]:
                self.line = self.line or line

    def refuse(self) -> None:
        """Raise if the cells seen are quoted.

        Raises:
            DataError: They are.
        """
        if self.line and not self.bare:
            raise DataError(
                f"{self.name}, line {self.line}, and all other cells with a quotation mark are "
                "quoted as in CSV; write the table without quotes"
            )


def pairs(
    form: str,
    files: Dict[str, File],
    languages: List[str],
    columns: Dict[str, Union[int, str]],
    variants: Dict[str, str],
    drop: List[str],
    carriage_returns: bool,
    references: bool,
    notes: List[str],
) -> Pairs:
    """The pairs of a piece, in the order source, target.

    Args:
        form: ``text``, ``sgm``, ``tsv`` or ``tmx``.
        files: Paths and names by language, or under ``both``.
        languages: Source and target.
        columns: See `Piece`; as are the next three.
        variants: Tags of the languages in a ``tmx``.
        drop: Strings of lines that are no sentences.
        carriage_returns: Whether they are tolerated.
        references: Whether ``&amp;`` in SGML becomes a character.
        notes: Where sentences go that a person should read.
    """
    if form == "tsv":
        return tsv(files["both"], columns, languages, carriage_returns)
    if form == "tmx":
        tags = [variants.get(code, code) for code in languages]
        return tmx.pairs(_opened(files["both"]), tags, notes.append)
    sides = [files[code] for code in languages]
    if form == "sgm":
        return sgm(sides, references)
    lines = [plain(file, carriage_returns, drop) for file in sides]
    return aligned(lines, [name for _, name in sides])


def sliced(stream: Pairs, number: int, count: int) -> Pairs:
    """One of `count` slices of a stream; equal pairs are in the same slice."""
    for pair in stream:
        if crc32("\n".join(pair).encode()) % count == number:
            yield pair


def extract_piece(
    folder: Path,
    prefix: str,
    part_lines: int,
    replace: Dict[str, str],
    portion: Optional[Tuple[int, int]],
    **reading: Any,
) -> Dict[str, Any]:
    """Write the parts of one piece.

    Args:
        folder: Where the parts go.
        prefix: First half of the parts' names.
        part_lines: Pairs in a part.
        replace: Strings to replace in both sides.
        portion: Number of the slice to take and number of slices, or None for everything.
        reading: Arguments of `pairs`, but for the notes.

    Returns:
        ``pairs``, ``parts`` (names and numbers of lines) and ``notes``.
    """
    done = folder / f"{prefix}.json"
    if (record := read_json(done)) is not None:
        return record
    notes: List[str] = []
    stream, parts = pairs(**reading, notes=notes), []
    if portion is not None:
        stream = sliced(stream, *portion)
    while chunk := list(islice(stream, part_lines)):
        name = f"{prefix}-{len(parts):05d}"
        for side, code in enumerate(reading["languages"]):
            lines = [pair[side] for pair in chunk]
            for old, new in replace.items():
                lines = [line.strip().replace(old, new) for line in lines]
            write_lines(folder / f"{name}.{code}", lines)
        parts.append([name, len(chunk)])
    record = {"pairs": sum(lines for _, lines in parts), "parts": parts, "notes": notes}
    if not parts:
        names = ", ".join(sorted(name for _, name in reading["files"].values()))
        raise DataError(f"{names} holds no sentence pairs in the format {reading['form']!r}")
    write_json(done, record)
    return record
