"""Batches, order, length and n-best, which are the same for every model."""

import importlib.util
import logging
import sys
from pathlib import Path

import pytest

from tsa_mt.translate.translator import Decoding, Hypothesis, batches


def load_echo():
    path = Path(__file__).with_name("echo.py")
    spec = importlib.util.spec_from_file_location("echo", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Echo


Echo = load_echo()


def best(translator, lines):
    return [hypotheses[0].text for hypotheses in translator.translate(lines)]


def test_translations_come_in_the_order_of_the_lines():
    lines = ["ab cd ef", "gh", "ij kl", "mn", "op qr st uv"]
    assert best(Echo(batch_tokens=6), lines) == ["ba dc fe", "hg", "ji lk", "nm", "po rq ts vu"]


def test_sentences_of_similar_length_share_a_batch_of_the_size_asked_for():
    assert list(batches([3, 1, 2, 1, 9], 6)) == [[1, 3], [2], [0], [4]]
    assert list(batches([3, 1, 2, 1, 9], 8)) == [[1, 3], [2, 0], [4]]


def test_a_sentence_longer_than_a_batch_is_a_batch_of_its_own():
    assert list(batches([50, 1], 10)) == [[1], [0]]


def test_nothing_is_translated_to_nothing():
    translator = Echo()
    assert translator.translate([]) == []
    assert translator.batches == []


@pytest.mark.parametrize("line", ["", "  ", "\t", "\x00", "\u2028 \x85", "\r"])
def test_a_line_without_characters_is_empty_and_no_model_is_asked(line):
    translator = Echo()
    empty = Hypothesis((), "", 0.0)
    assert translator.translate([line, "ab"], n_best=2)[0] == [empty, empty]
    assert translator.batches == [[["ab"]]]


def test_control_characters_and_line_separators_part_words():
    assert best(Echo(), ["ab\x00cd\u2028ef\x85gh\ti"]) == ["ba dc fe hg i"]


def test_a_lone_surrogate_becomes_a_character_that_utf_8_has():
    assert best(Echo(), ["a\ud800b"]) == ["b\ufffda"]


@pytest.mark.parametrize("word", ["<s>", "</s>", "<pad>", "<blank>"])
def test_a_word_that_looks_like_a_symbol_is_an_unknown_word(word):
    translator = Echo()
    translator.translate([f"ab {word} cd"])
    assert translator.batches == [[["ab", "<unk>", "cd"]]]


def test_the_n_best_come_best_first():
    found = Echo().translate(["ab", "cd"], n_best=3)
    assert [[h.text for h in row] for row in found] == [
        ["ba", "ba !", "ba ! !"],
        ["dc", "dc !", "dc ! !"],
    ]
    assert [h.score for h in found[0]] == [-1, -2, -3]
    assert found[1][1].tokens == ("dc", "!")


@pytest.mark.parametrize("n_best", [0, 6])
def test_an_impossible_n_best_is_refused(n_best):
    with pytest.raises(ValueError, match=f"n_best is {n_best}; with a beam of 5 it can be 1 to 5"):
        Echo().translate(["ab"], n_best=n_best)


def test_a_sentence_that_is_too_long_loses_no_word():
    words = [f"w{number}" for number in range(333)]
    translator = Echo(limit=20, max_length=10)
    told = []
    translator.on_long = lambda *facts: told.append(facts)
    (short,), (long,), (other,) = translator.translate(["ab cd", " ".join(words), "ef"])
    assert long.text.split() == [word[::-1] for word in words]
    assert long.tokens == tuple(long.text.split())
    assert (short.text, other.text) == ("ba dc", "fe")
    assert told == [(1, 333, 34)]
    assert max(len(part) for batch in translator.batches for part in batch) == 10


def test_the_score_of_parts_is_their_mean_by_length():
    translator = Echo(limit=4, max_length=4)
    translator.decode_batch = lambda parts: [[(p, -float(len(p)))] for p in parts]
    translator.on_long = lambda *facts: None
    ((found,),) = translator.translate_tokens([["a", "b", "c", "d", "e", "f"]])
    assert found.score == pytest.approx(-(5 * 4 + 3 * 2) / 8)


def test_a_long_sentence_is_warned_of_by_default(caplog):
    with caplog.at_level(logging.WARNING):
        Echo(limit=5).translate(["a " * 7])
    assert "sentence 0 has 7 pieces, more than the model reads" in caplog.text
    assert "it is translated in 2 parts" in caplog.text


def test_every_batch_is_reported():
    translator = Echo(batch_tokens=4)
    seen = []
    translator.on_batch = seen.append
    translator.translate(["a", "b", "c d e"])
    assert seen == [2, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "beam is 0; it must be 1 or more"),
        ({"batch_tokens": 0}, "batch_tokens is 0; it must be 1 or more"),
        ({"max_length": 0}, "max_length is 0; it must be 1 or more"),
        ({"min_length": 0}, "min_length is 0; it must be 1 or more"),
        ({"min_length": 7, "max_length": 6}, "min_length is 7, more than max_length, 6"),
    ],
)
def test_a_search_that_is_not_possible_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Decoding(**options)
