"""The sentences of SGML test sets: WMT's ``.sgm`` and WIT3's XML, which is not well-formed.

By the DTD of mteval a segment holds nothing but text, so that ``seg`` is the only element that
matters: bare ampersands and ``a < b`` inside of it are text, and line breaks are spaces. No entity
is fetched or expanded; character references are decoded where one asks for it.
"""

import re
from dataclasses import dataclass
from typing import Iterator

from tsa_mt.characters import decode_references
from tsa_mt.textfile import Text, TextError

_ATTRIBUTES = r"""(?:\s(?:[^<>"']|"[^"<]*"|'[^'<]*')*)?"""
_MARK = re.compile(
    rf"<!--|<!\[CDATA\[|<(?P<open>seg|doc){_ATTRIBUTES}>|(?P<close></seg\s*>)", re.IGNORECASE
)
_NAME = {
    name: re.compile(rf"""\s{name}\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.IGNORECASE)
    for name in ("docid", "id")
}
_BREAK = re.compile(r"[ \t]*[\r\n]\s*")


@dataclass(frozen=True)
class Segment:
    """A sentence and where it stands.

    Attributes:
        document: Name of its document; empty where documents have none.
        number: Its ``id``, a string.
        text: The sentence, on one line.
    """

    document: str
    number: str
    text: str


def read_segments(text: Text, references: bool = True) -> Iterator[Segment]:
    """The segments of an SGML file, which is held in memory meanwhile.

    Args:
        text: The file.
        references: Whether ``&amp;`` and the like become characters.

    Raises:
        TextError: A segment does not end before the next one begins, or ends twice.
    """
    content = text.content()
    document = number = ""
    parts, start, position = [], None, 0  # start: where an open segment begins
    while mark := _MARK.search(content, position):
        before, position = content[position : mark.start()], mark.end()
        if start is not None:
            parts.append(before)
        if mark[0] in ("<!--", "<![CDATA["):
            close = "-->" if mark[0] == "<!--" else "]]>"
            end = content.find(close, position)
            if end < 0:
                raise _fault(text, content, mark.start(), f"{mark[0]} without {close}")
            if start is not None and close == "]]>":
                parts.append(content[position:end])
            position = end + len(close)
        elif mark["close"]:
            if start is None:
                raise _fault(text, content, mark.start(), "the end of a segment that was not begun")
            yield Segment(document, number, _sentence("".join(parts), references))
            parts, start = [], None
        elif start is not None:
            raise _fault(text, content, start, "a segment that does not end before the next tag")
        elif mark["open"].lower() == "doc":
            document = _attribute("docid", mark[0])
        elif mark[0].endswith("/>"):
            yield Segment(document, _attribute("id", mark[0]), "")
        else:
            number, start = _attribute("id", mark[0]), mark.start()
    if start is not None:
        raise _fault(text, content, start, "a segment that does not end")


def _attribute(name: str, tag: str) -> str:
    found = _NAME[name].search(tag)
    return "" if found is None else next(value for value in found.groups() if value is not None)


def _sentence(text: str, references: bool) -> str:
    text = _BREAK.sub(" ", text).strip()
    return decode_references(text) if references else text


def _fault(text: Text, content: str, position: int, what: str) -> TextError:
    line = content.count("\n", 0, position) + 1
    return TextError(f"{text.name}, line {line}, has {what}: it is damaged, or no SGML test set")
