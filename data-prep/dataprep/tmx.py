"""Translation memories: pairs out of TMX 1.1 to 1.4b, at a memory that does not grow.

Text is what stands in ``seg``, but for native codes (``bpt ept ph it ut``), which are markup of the
document that was translated; the ``sub`` in them is text again. Entities are never fetched and must
not be declared.
"""

from html.entities import html5
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple
from xml.parsers import expat

from tsa_mt.textfile import MAX_LINE_BYTES, Text, TextError

CODES = frozenset(("bpt", "ept", "ph", "it", "ut"))
XML_LANG = "http://www.w3.org/XML/1998/namespace lang"

Variant = Tuple[str, str]
"""The language tag of a segment, in lower case with hyphens, and its text."""


class _Units:
    """Collects the variants of every translation unit while expat parses."""

    def __init__(self, parser: Any) -> None:
        self.found: List[Tuple[int, List[Variant]]] = []
        self.parser, self.line = parser, 0
        self.path: List[str] = []
        self.variants: List[Variant] = []
        self.tag, self.text, self.hidden, self.length = "", None, [False], 0
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self.start, self.end
        parser.CharacterDataHandler = self.characters
        parser.EntityDeclHandler = self.declared
        parser.SkippedEntityHandler = self.skipped

    def start(self, name: str, attributes: Dict[str, str]) -> None:
        name = name.rpartition(" ")[2]
        if not self.path and name != "tmx":
            raise _Refused(f"begins with the element {name!r} instead of 'tmx'")
        above = self.path[-1] if self.path else ""
        self.path.append(name)
        if self.text is not None:
            self.hidden.append(name in CODES or (self.hidden[-1] and name != "sub"))
            if name == "sub":
                self.text.append(" ")
        elif name == "tu":
            self.variants, self.line = [], self.parser.CurrentLineNumber
        elif name == "tuv":
            self.tag = plain_tag(attributes.get(XML_LANG) or attributes.get("lang") or "")
        elif name == "seg" and above == "tuv":
            self.text, self.hidden, self.length = [], [False], 0

    def end(self, name: str) -> None:
        name = self.path.pop()
        if self.text is None:
            if name == "tu":
                self.found.append((self.line, self.variants))
        elif name == "seg" and self.path[-1] == "tuv":
            self.variants.append((self.tag, " ".join("".join(self.text).split())))
            self.text = None
        else:
            self.hidden.pop()
            if name == "sub":
                self.text.append(" ")

    def characters(self, data: str) -> None:
        if self.text is None or self.hidden[-1]:
            return
        self.length += len(data)
        if self.length > MAX_LINE_BYTES:
            raise _Refused(f"has a segment of more than {MAX_LINE_BYTES:,} characters")
        self.text.append(data)

    def declared(self, name: str, *_: object) -> None:
        raise _Refused(f"declares an entity ({name}), which a translation memory has no use for")

    def skipped(self, name: str, is_parameter: bool) -> None:
        if is_parameter:
            return
        if name + ";" not in html5:
            raise _Refused(f"uses the entity &{name};, which nobody declares")
        self.characters(html5[name + ";"])


class _Refused(Exception):
    """Why a file is not read; raised out of expat's callbacks."""


def units(text: Text) -> Iterator[Tuple[int, List[Variant]]]:
    """The line number and the variants of every translation unit.

    Raises:
        TextError: The file is no well-formed TMX, or declares entities.
    """
    parser = expat.ParserCreate("utf-8", " ")
    collected = _Units(parser)
    try:
        for data in text.pieces():
            parser.Parse(data)
            yield from collected.found
            collected.found.clear()
        parser.Parse(b"", True)
    except expat.ExpatError as fault:
        raise TextError(
            f"{text.name} is cut off or no well-formed TMX ({fault}); get it again"
        ) from None
    except _Refused as fault:
        raise TextError(f"{text.name}, line {parser.CurrentLineNumber}, {fault}") from None


def plain_tag(tag: str) -> str:
    """A language tag as tags are compared: ``de_AT`` and ``DE-at`` are one."""
    return tag.strip().replace("_", "-").lower()


def lookup(wanted: str, variants: Sequence[Variant]) -> Tuple[str, List[str]]:
    """The tag that a language stands for in a unit, and the texts that have it.

    First the tag itself, else the only one that it is the beginning of (RFC 4647, basic filtering),
    else the longest tag that is its beginning (RFC 4647, lookup).

    Raises:
        LookupError: Several tags fit; the error holds them.
    """
    tags = dict.fromkeys(tag for tag, _ in variants)
    longer = [tag for tag in tags if tag.startswith(f"{wanted}-")]
    if wanted not in tags and len(longer) > 1:
        raise LookupError(longer)
    chosen = wanted if wanted in tags or not longer else longer[0]
    while chosen not in tags and "-" in chosen:
        chosen = chosen.rpartition("-")[0]
    return chosen, [text for tag, text in variants if tag == chosen]


def pairs(
    text: Text, languages: Sequence[str], note: Optional[Callable[[str], None]] = None
) -> Iterator[Tuple[str, str]]:
    """The units that have both languages.

    Args:
        text: The memory.
        languages: Tags of source and target, as `lookup` takes them.
        note: Called with a sentence about units with several variants of one tag, of which the
            first is taken, and about units that lack a language.

    Raises:
        TextError: The file is no TMX, has no unit with both languages, or in a unit several tags
            fit a language.
    """
    wanted = [plain_tag(language) for language in languages]
    seen: Dict[str, int] = {}
    read = whole = several = 0
    for line, variants in units(text):
        read += 1
        for tag, _ in variants:
            seen[tag] = seen.get(tag, 0) + 1
        try:
            sides = [lookup(tag, variants)[1] for tag in wanted]
        except LookupError as fault:
            raise TextError(
                f"{text.name}, line {line}, has a unit in {' and '.join(fault.args[0])}; say which "
                "tags to take, e.g. --tmx-languages de-DE en-GB"
            ) from None
        if all(sides):
            whole += 1
            several += any(len(side) > 1 for side in sides)
            yield sides[0][0], sides[1][0]
    listed = ", ".join(f"{tag or 'none'} {n:,}" for tag, n in sorted(seen.items())) or "none"
    if not whole:
        raise TextError(
            f"{text.name} has no unit in both {languages[0]} and {languages[1]}; its languages are "
            f"{listed}; name two of them by --tmx-languages SOURCE TARGET"
        )
    if note is not None and (several or whole < read or len(seen) > 2):
        note(
            f"{text.name}: {whole:,} of {read:,} units have both languages"
            + (f", {several:,} several variants of one tag: the first is taken" if several else "")
            + f"; segments: {listed}"
        )
