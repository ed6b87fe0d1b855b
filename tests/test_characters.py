"""Characters that nobody sees, references, and lengths in other scripts than Latin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsa_mt.characters import (
    count_words,
    decode_references,
    letters,
    other_letters,
    scoring_tokeniser,
    tidy,
)


@pytest.mark.parametrize(
    "line",
    [
        "ශ්\u200dරී ලංකා",  # Sinhala needs the joiner
        "می\u200cخواهم بروم",  # Persian the non-joiner
        "क्\u200dष",
        "👩\u200d👩\u200d👧 and 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "ខ្ញុំ\u200bទៅ\u200bផ្សារ",  # Khmer parts words by zero-width spaces
        "ᠮᠣᠩ\u180eᠭᠣᠯ",
        "\u0600١٢",  # a sign of Arabic that is seen
        "Z\u0308 e\u0301",
        "\U0001fae8",  # newer than the Unicode of old Pythons
    ],
)
def test_what_changes_a_word_stays(line):
    assert tidy(line) == line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Donau\u00addampfer", "Donaudampfer"),
        ("\u200fשלום\u200e \u202aabc\u202c", "שלום abc"),
        ("\ufeffa\u2060b", "ab"),
        ("a\x00b\x07c\x85d\u2028e\u2029f", "a b c d e f"),
        ("foo\u200bbar", "foo bar"),
        ("a \u00a0 b\u3000c\u202fd", "a b c d"),
        ("\uf0b7 point\uffff", "point"),
        ("  a  b  ", "a b"),
        ("\u00ad", ""),
    ],
)
def test_what_nobody_sees_goes_and_words_stay_whole(line, expected):
    assert tidy(line) == expected


@given(st.text())
def test_tidying_twice_changes_nothing_more(line):
    assert tidy(tidy(line)) == tidy(line)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("R&amp;D &quot;x&quot; &#8217; &#x20AC; &ouml;", 'R&D "x" ’ € ö'),
        ("AT&T &copy 2020 a&lt b &notit; &ampere;", "AT&T &copy 2020 a&lt b &notit; &ampere;"),
        ("?a=1&copy=2&reg=3", "?a=1&copy=2&reg=3"),
        ("&amp;amp; &;", "&amp; &;"),
        ("&#0;&#x110000;&#99999999;", "\ufffd\ufffd&#99999999;"),
    ],
)
def test_references_are_decoded_where_a_semicolon_ends_them(line, expected):
    assert decode_references(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a house", 7),
        ("Größe", 5),
        ("环境保护", 12),
        ("ひらがな", 8),
        ("한국어", 6),
        ("我喜欢 tea", 13),
        ("สวัสดี", 6),
        ("\U00020000", 3),
    ],
)
def test_lengths_count_letters_of_an_alphabet(line, expected):
    assert letters(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a small house", 3),
        ("环境保护很重要", 4),
        ("我 喜欢", 2),
        ("iPhone手机 is new", 4),
        ("สวัสดีครับผมชื่อ", 3),
        ("한국어 문장", 2),
        ("", 0),
    ],
)
def test_words_are_counted_where_no_spaces_are_written(line, expected):
    assert count_words(line) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["我喜欢在公园里散步。"], "zh"),
        (["これは日本語の文です。"], "ja-mecab"),
        (["나는 공원에서 산책을 좋아한다."], "ko-mecab"),
        (["ฉันชอบเดินเล่นในสวน"], "flores200"),
        (["ខ្ញុំចូលចិត្តដើរ"], "flores200"),
        (["Ich gehe gern im Park spazieren."], None),
        (["Я люблю гулять", "أحب المشي", "मुझे टहलना पसंद है"], None),
        (["The word 你好 means hello and is said by many people every day."], None),
        ([], None),
    ],
)
def test_the_tokeniser_follows_from_the_script(lines, expected):
    assert scoring_tokeniser(lines) == expected


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("Größe ½ m² — „x“", False),
        ("Ελλάδα Россия", False),
        ("中文", True),
        ("ไทย", True),
        ("हिन्दी", True),
    ],
)
def test_letters_of_other_scripts_are_told(line, other):
    assert (other_letters([line]) > 0) is other
