"""HTML and SVG elements from Python calls; text is escaped unless it is `Html` already."""

import re
from html import escape
from typing import Union

VOID = {"br", "hr", "meta"}
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class Html(str):
    """Markup that is not escaped again."""

    __slots__ = ()


def text(value: object) -> Html:
    """Escapes anything but `Html`; what HTML has no place for becomes U+FFFD."""
    if isinstance(value, Html):
        return value
    return Html(escape(_UNPRINTABLE.sub("\ufffd", str(value)), quote=True))


def join(*children: object) -> Html:
    """Concatenates children; lists and tuples are flattened, ``None`` is left out."""
    parts = []
    for child in children:
        if isinstance(child, (list, tuple)):
            parts.append(join(*child))
        elif child is not None:
            parts.append(text(child))
    return Html("".join(parts))


def element(name: str, /, *children: object, **attributes: Union[str, float, bool, None]) -> Html:
    """An element such as ``element("p", "a < b", class_="note")``.

    Args:
        name: Tag.
        *children: As for `join`.
        **attributes: A trailing underscore is dropped, others become hyphens; ``None`` and False
            leave an attribute out, True gives it without a value.
    """
    opening = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        opening.append(key if value is True else f'{key}="{text(_short(value))}"')
    start = f"<{' '.join(opening)}>"
    return Html(start if name in VOID else f"{start}{join(*children)}</{name}>")


def _short(value: Union[str, float]) -> Union[str, float]:
    """Coordinates with two decimals are exact enough and keep the page small."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def table(header: list, rows: list, caption: str, words: int = 0) -> Html:
    """A table that scrolls within itself when the screen is narrow.

    Args:
        header: Cells of the first line.
        rows: Lines of cells; the first cell of a line is its heading.
        caption: What the table shows; read out first by a screen reader.
        words: How many columns after the first hold words; the others are right-aligned.
    """
    numeric = ["number" if column > words else None for column in range(len(header))]
    head = element(
        "tr",
        [element("th", cell, scope="col", class_=style) for cell, style in zip(header, numeric)],
    )
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            [element("td", cell, class_=style) for cell, style in zip(row[1:], numeric[1:])],
        )
        for row in rows
    ]
    content = element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", body),
    )
    return element("div", content, class_="wide", tabindex="0", role="region", aria_label=caption)


def missing(sentence: str) -> Html:
    """One sentence in the place of something that is not there."""
    return element("p", sentence, class_="missing")
