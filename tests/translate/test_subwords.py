"""Text to pieces and back."""

import sys

import pytest
import sentencepiece

from tsa_mt.translate.subwords import (
    Missing,
    SentencePiece,
    SubwordNmt,
    Words,
    clean,
    find_codec,
)
from tsa_mt.translate.tokenise import Moses, Tokenised

NASTY = ["naïve café", "日本語", "a\u00a0b", "\u200b", "😀 ok", "a\x00b", "\ufffd", "x" * 5000]
UNKNOWN = (None, None)


@pytest.fixture(scope="module")
def spelling(tmp_path_factory):
    """A SentencePiece model that spells unknown characters as bytes."""
    folder = tmp_path_factory.mktemp("spelling")
    text = folder / "text"
    text.write_text("a cab bade a dab\nbad cabbage\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "pieces"),
        vocab_size=290,
        hard_vocab_limit=False,
        byte_fallback=True,
        minloglevel=2,
        num_threads=1,
    )
    return folder / "pieces.model"


@pytest.mark.parametrize("text", ["a cab", "bad 日本", "😀 bade", "naïve"])
def test_pieces_that_are_bytes_become_characters_again(spelling, text):
    codec = SentencePiece(spelling)
    pieces = codec.encode(text)
    assert codec.decode(pieces) == text


def test_bytes_that_are_no_character_are_shown_as_such():
    codec = Missing(SentencePiece, None)
    assert codec.decode(["▁a", "<0xE2>", "<0x82>", "▁b", "<0x41>"]) == "a\ufffd bA"


def test_a_byte_that_would_end_the_line_is_a_space():
    assert Missing(SentencePiece, None).decode(["▁a", "<0x0A>", "b"]) == "a b"


@pytest.mark.parametrize("text", NASTY)
def test_no_text_breaks_a_subword_model(spelling, text):
    codec = SentencePiece(spelling)
    assert "\n" not in codec.decode(codec.encode(text))


def test_an_unknown_piece_is_spelled_as_fairseq_spells_it():
    assert Missing(SentencePiece, None).decode(["▁a", "<unk>"]) == "a<unk>"


def test_controls_become_spaces_and_other_characters_stay():
    assert clean("a\tb\x85c\u2029d\x7fe\u00a0\u200df") == "a b c d e\u00a0\u200df"


def test_text_is_tidied_as_training_text_is(spelling):
    codec = SentencePiece(spelling)
    assert codec.encode("a\u00adb &#99;\u200fa\x07") == codec.encode("ab ca")
    assert codec.encode("a &#99") == codec.encode("a &\u200e#99")
    assert Words().encode("a\u00adb \u200cc&amp;\x85d") == ["ab", "\u200cc&amp;", "d"]


def test_subword_nmt_s_codes_are_applied_and_undone(tmp_path):
    pytest.importorskip("subword_nmt", reason="subword-nmt is not installed")
    codes = tmp_path / "codes"
    codes.write_text("#version: 0.2\nl o\nlo w</w>\n")
    codec = SubwordNmt(codes)
    assert codec.encode("low lot") == ["low", "lo@@", "t"]
    assert codec.decode(["low", "lo@@", "t"]) == "low lot"


def test_a_missing_subword_nmt_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "subword_nmt.apply_bpe", None)
    with pytest.raises(ValueError, match=r"pip install 'tsa-mt\[data\]'"):
        SubwordNmt(tmp_path / "codes")


def test_without_a_subword_model_words_are_the_pieces(tmp_path):
    codec = find_codec({}, ("de", "en"), ["<s>", "Haus", "."], tmp_path)
    assert isinstance(codec, Words)
    assert codec.decode(codec.encode(" das  Haus ")) == "das Haus"


@pytest.mark.parametrize(("symbol", "kind"), [("▁Haus", "SentencePiece"), ("Ha@@", "SubwordNmt")])
def test_a_subword_model_that_is_not_there_is_asked_for_when_text_comes(symbol, kind, tmp_path):
    codec = find_codec({}, UNKNOWN, [symbol], tmp_path)
    with pytest.raises(FileNotFoundError, match=f"the model reads {kind} pieces, .* --data"):
        codec.encode("Haus")


def test_of_two_subword_models_the_source_s_is_taken(spelling, tmp_path):
    paths = {"spm.en.model": tmp_path / "absent.model", "spm.de.model": spelling}
    codec = find_codec(paths, ("de", "en"), [], tmp_path)
    assert codec.encode("a cab")
    assert codec.languages == ("de", "en")


def test_two_subword_models_without_a_language_are_refused(spelling, tmp_path):
    paths = {"a.model": spelling, "b.model": spelling}
    with pytest.raises(ValueError, match=r"which of the subword models a\.model, b\.model"):
        find_codec(paths, ("de", "en"), [], tmp_path)


@pytest.fixture
def tokenised():
    words = Words()
    words.languages = ("en", "de")
    return Tokenised(words, Moses(words.languages, split_hyphens=False), lowercase=True)


def test_moses_parts_what_the_training_text_parted(tokenised):
    pieces = tokenised.encode('He said "Hello" (in the U.S.')
    assert pieces == ["he", "said", "&quot;", "hello", "&quot;", "(", "in", "the", "u.s", "."]


def test_moses_joins_it_again(tokenised):
    assert (
        tokenised.decode(["Er", "sagt", ":", "ja", "&amp;", "nein", "."]) == "Er sagt: ja & nein."
    )


def test_moses_splits_hyphens_only_when_asked():
    assert Moses(("en", "de"), True).tokenise("a well-known man") == "a well @-@ known man"
    assert Moses(("en", "de"), False).tokenise("a well-known man") == "a well-known man"


def test_moses_needs_to_know_the_languages():
    with pytest.raises(ValueError, match="the model does not say its languages"):
        Moses(UNKNOWN, False)


def test_text_can_be_lower_cased_without_moses():
    assert Tokenised(Words(), None, lowercase=True).encode("Das Haus.") == ["das", "haus."]
