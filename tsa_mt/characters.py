"""Which characters a sentence consists of: those that nobody sees, references, and scripts.

Training text and the text that is translated later go through `tidy` alike. The sets below are
written out, so that the same text comes out of every version of Python and of Unicode.
"""

import re
from collections.abc import Iterable
from html import unescape
from html.entities import html5
from typing import Optional

# C0 and C1 controls, U+2028 and U+2029: white space that would break lines or columns. Private use
# and noncharacters mean nothing outside of the program that wrote them.
_SPACES = "\x00-\x1f\x7f-\x9f\u2028\u2029\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff"
# Soft hyphens, marks of direction, invisible operators and byte-order marks stand within words.
# Joiners (U+200C, U+200D), the Mongolian separator and the tags of flags change what one sees.
_NOTHING = "\u00ad\u061c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
# A zero-width space parts words in scripts that write no spaces; elsewhere it is a stray.
_SOUTH_EAST_ASIA = "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf"

_SPACE = re.compile(f"[{_SPACES}]|(?<![{_SOUTH_EAST_ASIA}])\u200b")
_INVISIBLE = re.compile(f"[{_NOTHING}]")
_REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_SURROGATE = re.compile("[\ud800-\udfff]")

# How many letters of an alphabet a character stands for, measured on TICO-19 and newstest2019
# (docs/results/data-prep.md): Chinese 2.6 to 4.2, scripts of South-East Asia and India .8 to 1.1.
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7ff"
_WIDE = re.compile(f"[{_HAN}{_KANA}{_HANGUL}]")
_HAN_ONE = re.compile(f"[{_HAN}]")
_UNSPACED = re.compile(f"[{_HAN}{_KANA}{_SOUTH_EAST_ASIA}]+")
HAN_LETTERS, SYLLABLE_LETTERS, WORD_LETTERS = 3, 2, 5
"""Letters that a Han character, a syllable of Kana or Hangul, and a word count as."""

# Letters of other scripts than Latin, Greek and Cyrillic. NFKC takes some of them apart that people
# write as one (Thai, Lao, Hindi, Bengali), and full-width punctuation becomes that of ASCII.
_OTHER = re.compile(
    "[\u0530-\u1aff\u2d00-\u2d7f\u2e80-\ua63f\ua880-\ud7ff\uf900-\ufdcf\ufe70-\ufefc"
    "\uff61-\uffdc\U00010a00-\U0001bfff\U00020000-\U0003ffff]"
)
_SHARES = {  # the least share of a script at which sacreBLEU's tokeniser for it is the right one
    "ja-mecab": (re.compile(f"[{_KANA}]"), 0.05),
    "zh": (_HAN_ONE, 0.2),
    "ko-mecab": (re.compile(f"[{_HANGUL}]"), 0.2),
    "flores200": (re.compile(f"[{_SOUTH_EAST_ASIA}]"), 0.2),
}


def tidy(line: str) -> str:
    """A line without what nobody sees, and with one space where there is white space.

    Control characters become spaces, soft hyphens and marks of direction nothing. Zero-width
    joiners and non-joiners stay, for words of Persian, Hindi or Sinhala need them.
    """
    if not line.isprintable():
        line = _INVISIBLE.sub("", _SPACE.sub(" ", line))
    return " ".join(line.split())


def decode_references(line: str) -> str:
    """Turns ``&amp;``, ``&#8217;`` and the like into characters, where a semicolon ends them."""
    return _REFERENCE.sub(_decoded, line) if "&" in line else line


def _decoded(found: "re.Match[str]") -> str:
    name = found[0][1:]
    return unescape(found[0]) if name[0] == "#" else html5.get(name, found[0])


def has_wide(text: str) -> bool:
    """Whether Han characters, Kana or Hangul occur."""
    return _WIDE.search(text) is not None


def letters(line: str) -> int:
    """Length of a line in letters of an alphabet: a Han character counts as `HAN_LETTERS` ..."""
    wide = _WIDE.findall(line)
    if not wide:
        return len(line)
    han = len(_HAN_ONE.findall(line))
    return len(line) + (SYLLABLE_LETTERS - 1) * len(wide) + (HAN_LETTERS - SYLLABLE_LETTERS) * han


def has_unspaced(text: str) -> bool:
    """Whether a script occurs that writes no spaces between words."""
    return _UNSPACED.search(text) is not None


def count_words(line: str) -> int:
    """Words of a line; where a script writes no spaces, one for every `WORD_LETTERS` letters."""
    runs = _UNSPACED.findall(line)
    if not runs:
        return len(line.split())
    hidden = sum(max(1, round(letters(run) / WORD_LETTERS)) for run in runs)
    return len(_UNSPACED.sub(" ", line).split()) + hidden


def other_letters(lines: Iterable[str]) -> float:
    """Share of letters that are neither Latin, Greek nor Cyrillic in what is no space."""
    text = "".join("".join(lines).split())
    return len(_OTHER.findall(text)) / max(1, len(text))


def scoring_tokeniser(lines: Iterable[str]) -> Optional[str]:
    """The tokeniser of sacreBLEU that a text needs, where its default, 13a, finds no words.

    Returns:
        ``ja-mecab``, ``zh``, ``ko-mecab``, ``flores200``; ``None`` where 13a will do.
    """
    text = "".join("".join(lines).split())
    for name, (script, least) in _SHARES.items():
        if text and len(script.findall(text)) >= least * len(text):
            return name
    return None
