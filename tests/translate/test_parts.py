"""Where a sentence that is too long is divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsa_mt.translate.parts import divide


def test_a_part_ends_with_a_sentence_where_it_can():
    pieces = "▁Go . ▁I ▁ca n ▁Go . ▁I ▁ca n".split()
    assert divide(pieces, 8) == [pieces[:7], pieces[7:]]


def test_a_part_ends_with_a_word_where_no_sentence_does():
    pieces = "▁a b c ▁d e f ▁g h i".split()
    assert divide(pieces, 5) == [["▁a", "b", "c"], ["▁d", "e", "f"], ["▁g", "h", "i"]]


def test_pieces_of_subword_nmt_are_not_torn_apart():
    pieces = "a@@ b c@@ d@@ e f".split()
    assert divide(pieces, 3) == [["a@@", "b"], ["c@@", "d@@", "e"], ["f"]]


def test_a_word_longer_than_a_part_is_cut_where_the_part_is_full():
    assert divide(["▁a", *"bcdefgh"], 3) == [["▁a", "b", "c"], ["d", "e", "f"], ["g", "h"]]


def test_a_full_stop_within_a_word_ends_no_sentence():
    pieces = ["▁a", "▁b", "▁c", ".", "com", "▁d"]
    assert divide(pieces, 5) == [pieces[:5], pieces[5:]]


@pytest.mark.parametrize("size", [1, 5, 9])
def test_no_pieces_have_no_parts(size):
    assert divide([], size) == []


@given(
    st.lists(st.sampled_from(["▁a", "b", ".", "▁c.", "d@@", "!"]), max_size=60),
    st.integers(1, 20),
)
def test_parts_lose_nothing_and_are_never_empty_or_too_long(pieces, size):
    parts = divide(pieces, size)
    assert [piece for part in parts for piece in part] == pieces
    assert all(1 <= len(part) <= size for part in parts)
