"""Sentence pairs out of the formats that corpora come in, into parts of plain text.

Each format is a function from files to pairs. A piece of a split is read by one worker; its parts
are ``{piece}-{part}.{language}``, one sentence per line, spaces at the ends removed.
"""

import re
import xml.etree.ElementTree as ElementTree
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple
from zlib import crc32

from dataprep.errors import DataError
from dataprep.files import read_json, write_json, write_lines
from dataprep.read import blocks, open_bytes

Pairs = Iterator[Tuple[str, str]]

SEGMENT = "<seg id"
SEGMENT_TAGS = re.compile(r'<seg id="[0-9]*">\s*|\s*</seg>\s*')
XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def _lines(path: Path, name: str, carriage_returns: bool) -> Iterator[str]:
    return chain.from_iterable(blocks(path, name, carriage_returns))


def text(path: Path, name: str, carriage_returns: bool, drop: Sequence[str] = ()) -> Iterator[str]:
    """One sentence per line; lines that hold one of the strings `drop` are none."""
    lines = _lines(path, name, carriage_returns)
    if not drop:
        return lines
    unwanted = re.compile("|".join(map(re.escape, drop)))
    return (line for line in lines if not unwanted.search(line))


def sgm(path: Path, name: str, carriage_returns: bool) -> Iterator[str]:
    """Test sets in SGM or WIT3's XML, which is not well-formed: the lines with ``<seg id``."""
    for line in _lines(path, name, carriage_returns):
        if SEGMENT in line:
            yield SEGMENT_TAGS.sub("", line)


def aligned(
    reader: Callable[[Path, str, bool], Iterator[str]],
    files: Dict[str, Tuple[Path, str]],
    languages: List[str],
    carriage_returns: bool,
) -> Pairs:
    """Pair the lines of two files.

    Raises:
        DataError: One has more lines than the other.
    """
    sides = [reader(*files[code], carriage_returns) for code in languages]
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
        (_, one), (_, two) = (files[code] for code in languages)
        raise DataError(
            f"{one} has {count + rest[0]:,} lines and {two} has {count + rest[1]:,}: "
            "they are not aligned, or one is cut off; get both again"
        )


def tsv(
    path: Path, name: str, columns: Dict[str, int], languages: List[str], carriage_returns: bool
) -> Pairs:
    """One pair per line, in columns separated by tabs.

    Raises:
        DataError: A line has too few columns.
    """
    wanted = [columns[code] for code in languages]
    for number, line in enumerate(_lines(path, name, carriage_returns), 1):
        cells = line.split("\t")
        if len(cells) <= max(wanted):
            raise DataError(
                f"{name}, line {number}, has {len(cells)} columns, needs {max(wanted) + 1} "
                "separated by tabs"
            )
        yield cells[wanted[0]], cells[wanted[1]]


def tmx(path: Path, name: str, languages: List[str]) -> Pairs:
    """Translation memory exchange: the translation units that have both languages.

    Raises:
        DataError: The file is not well-formed.
    """
    try:
        with open_bytes(path) as stream:
            for _, element in ElementTree.iterparse(stream):
                if element.tag == "tu":
                    sides = dict(_variants(element))
                    element.clear()
                    if all(code in sides for code in languages):
                        yield sides[languages[0]], sides[languages[1]]
                elif element.tag == "body":
                    element.clear()
    except (ElementTree.ParseError, EOFError) as fault:
        raise DataError(
            f"{name} is cut off or no well-formed TMX ({fault}); get it again"
        ) from None


def _variants(unit: ElementTree.Element) -> Iterator[Tuple[str, str]]:
    for variant in unit.iter("tuv"):
        code = variant.get(XML_LANG) or variant.get("lang") or ""
        segment = variant.find("seg")
        if segment is not None:
            yield code.lower().split("-")[0], " ".join("".join(segment.itertext()).split())


def pairs(
    form: str,
    files: Dict[str, Tuple[Path, str]],
    languages: List[str],
    columns: Dict[str, int],
    drop: List[str],
    carriage_returns: bool,
) -> Pairs:
    """The pairs of a piece, in the order source, target; the arguments are those of `Piece`."""
    if form == "tsv":
        return tsv(*files["both"], columns, languages, carriage_returns)
    if form == "tmx":
        return tmx(*files["both"], languages)
    reader = sgm if form == "sgm" else partial(text, drop=drop)
    return aligned(reader, files, languages, carriage_returns)


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
        reading: Arguments of `pairs`.

    Returns:
        ``pairs`` and ``parts`` (names and numbers of lines).
    """
    done = folder / f"{prefix}.json"
    if (record := read_json(done)) is not None:
        return record
    stream, parts = pairs(**reading), []
    if portion is not None:
        stream = sliced(stream, *portion)
    while chunk := list(islice(stream, part_lines)):
        name = f"{prefix}-{len(parts):05d}"
        for side, code in enumerate(reading["languages"]):
            lines = [pair[side].strip() for pair in chunk]
            for old, new in replace.items():
                lines = [line.replace(old, new) for line in lines]
            write_lines(folder / f"{name}.{code}", lines)
        parts.append([name, len(chunk)])
    record = {"pairs": sum(lines for _, lines in parts), "parts": parts}
    if not parts:
        names = ", ".join(sorted(name for _, name in reading["files"].values()))
        raise DataError(f"{names} holds no sentence pairs in the format {reading['form']!r}")
    write_json(done, record)
    return record
