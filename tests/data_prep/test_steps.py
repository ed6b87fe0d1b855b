"""The steps between extracted pairs and encoded text, each on its own."""

import io
import json
import random
from collections import Counter

import numpy as np
import pytest
from dataprep.clean import clean_part
from dataprep.duplicates import mark
from dataprep.errors import DataError
from dataprep.recipe import Bpe, Clean, Filters, HoldOut, SentencePiece, Tokenise
from dataprep.step import Step
from dataprep.subword import (
    BpeEncoder,
    drop_by_length,
    learn_bpe,
    learn_sentencepiece,
    sample,
)
from dataprep.text import split_of, write_text
from dataprep.tokenise import part_final_stop, tokenise_part, tokeniser


def part(folder, write, sources, targets, name="00-00000"):
    write(folder / f"{name}.en", sources)
    write(folder / f"{name}.de", targets)
    return folder


def cleaned(tmp_path, write, settings, pairs, training=True):
    sources, targets = zip(*pairs, strict=True)
    part(tmp_path / "in", write, sources, targets)
    (tmp_path / "out").mkdir()
    record = clean_part(
        tmp_path / "in", tmp_path / "out", "00-00000", settings, ["en", "de"], training
    )
    files = [tmp_path / "out" / f"00-00000.{code}" for code in ("en", "de")]
    sides = [path.read_text().split("\n")[:-1] for path in files]
    return list(zip(*sides, strict=True)), record


def test_every_rule_of_cleaning_is_counted(tmp_path, write):
    settings = Clean(
        identical=True,
        filters=Filters(
            min_words=2, max_words=5, word_ratio=2, max_word_chars=9, max_chars=30, char_ratio=3
        ),
    )
    pairs = [
        ("a b", "c d"),
        ("", "x y"),
        ("a b", "a b"),
        ("a", "b b"),
        ("a b", "c d e f g h"),
        ("a b", "c d e f g"),
        ("a b", "c dddddddddd"),
        ("aaaaaaa bbbbbbb ccccccc ddddddd e", "fffffff ggggggg hhhhhhh iiiiiii j"),
        ("a b", "cccccc ddddd"),
    ]
    kept, record = cleaned(tmp_path, write, settings, pairs)
    assert kept == [("a b", "c d")]
    assert record == {
        "in": 9,
        "out": 1,
        "dropped": {
            "empty": 1,
            "identical": 1,
            "min_words": 1,
            "max_words": 1,
            "word_ratio": 1,
            "max_word_chars": 1,
            "max_chars": 1,
            "char_ratio": 1,
        },
    }


def test_validation_and_test_sets_are_never_filtered(tmp_path, write):
    settings = Clean(identical=True, duplicates=True, filters=Filters(max_words=1))
    pairs = [("a b", "c d"), ("", "x"), ("a b", "a b"), ("a b", "a b")]
    kept, record = cleaned(tmp_path, write, settings, pairs, training=False)
    assert kept == pairs
    assert record == {"in": 4, "out": 4, "dropped": {}}


def test_lines_are_normalised_as_the_recipe_says(tmp_path, write):
    settings = Clean(unescape=True, control_characters=True, characters={"de": {"ş": "ș"}})
    kept, _ = cleaned(
        tmp_path, write, settings, [("a &amp; b\u200b  c\xa0d \x07", "ş &quot;x&quot;")]
    )
    assert kept == [("a & b c d", 'ș "x"')]


def test_punctuation_is_normalised_with_the_quirks_of_the_perl_script(tmp_path, write):
    kept, _ = cleaned(tmp_path, write, Clean(punctuation=True), [("It’s “so” … ‘x’", "„Ja“, so")])
    assert kept == [('It\'s "so" ... \'x"', '"Ja", so')]


def test_settings_for_training_text_leave_test_sets_alone(tmp_path, write):
    settings = Clean(punctuation=True, training_only=True, evaluation_characters={"’": "'"})
    kept, _ = cleaned(tmp_path, write, settings, [("It’s “so”", "‘x’")], training=False)
    assert kept == [("It's “so”", "‘x'")]


def test_language_identification_without_its_package_is_one_sentence(tmp_path, write, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "py3langid", None)
    monkeypatch.setitem(__import__("sys").modules, "py3langid.langid", None)
    with pytest.raises(DataError, match="needs the package py3langid; install it, or set"):
        cleaned(tmp_path, write, Clean(languages=True), [("a b", "c d")])


def test_pairs_in_another_language_are_left_out(tmp_path, write):
    pytest.importorskip("py3langid", reason="py3langid is not installed")
    pairs = [
        ("The weather is very nice today.", "Das Wetter ist heute sehr schön."),
        ("Das Wetter ist heute sehr schön.", "Das Wetter ist heute sehr schön!"),
    ]
    kept, record = cleaned(tmp_path, write, Clean(languages=True), pairs)
    assert kept == pairs[:1] and record["dropped"] == {"languages": 1}


@pytest.mark.parametrize("seed", range(5))
def test_every_pair_but_its_first_occurrence_is_marked_as_a_duplicate(tmp_path, seed):
    draw = random.Random(seed)
    parts = {f"{i}": [draw.randrange(60) for _ in range(draw.randrange(1, 50))] for i in range(4)}
    for name, values in parts.items():
        np.array(values, dtype=np.uint64).tofile(tmp_path / f"{name}.hashes")
    lost = mark(tmp_path, tmp_path, list(parts))
    seen, expected = set(), []
    for name, values in parts.items():
        keep = [not (v in seen or seen.add(v)) for v in values]
        expected.append(keep.count(False))
        if not all(keep):
            assert np.fromfile(tmp_path / f"{name}.keep", dtype=bool).tolist() == keep
    assert lost == expected


def test_a_corpus_without_pairs_has_no_duplicates(tmp_path):
    np.array([], dtype=np.uint64).tofile(tmp_path / "0.hashes")
    assert mark(tmp_path, tmp_path, ["0"]) == [0]


def test_duplicates_take_at_most_sixteen_bytes_a_pair(tmp_path):
    import tracemalloc

    count = 400_000
    half = np.arange(count // 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    names = [f"{i}" for i in range(20)]
    for name, values in zip(names, np.split(np.concatenate([half, half]), 20), strict=True):
        values.tofile(tmp_path / f"{name}.hashes")
    tracemalloc.start()
    lost = mark(tmp_path, tmp_path, names)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(lost) == count // 2
    assert peak <= 16 * count


@pytest.mark.parametrize(
    ("line", "parted"),
    [
        ("in the U.S.", "in the U.S ."),
        ("usw.", "usw ."),
        ("so .", "so ."),
        ("wait ...", "wait ..."),
        (".", "."),
        ("", ""),
        ("no stop", "no stop"),
    ],
)
def test_the_last_word_is_parted_from_its_full_stop(line, parted):
    assert part_final_stop(line) == parted


def test_moses_tokens_are_escaped_and_lower_cased():
    tokenise = tokeniser(Tokenise(lowercase=True, aggressive_hyphens=True), "en")
    assert tokenise('He said: "It\'s a well-known [fact] & more."') == (
        "he said : &quot; it &apos;s a well @-@ known &#91; fact &#93; &amp; more . &quot;"
    )


def test_masked_pairs_are_left_out_before_tokens_are_counted(tmp_path, write):
    part(tmp_path / "in", write, ["a b", "c d", "e, f, g"], ["x y", "z z", "x"])
    np.array([True, False, True]).tofile(tmp_path / "in" / "00-00000.keep")
    (tmp_path / "out").mkdir()
    record = tokenise_part(
        tmp_path / "in",
        tmp_path / "in",
        tmp_path / "out",
        "00-00000",
        Tokenise(filters=Filters(word_ratio=1.5)),
        ["en", "de"],
        True,
    )
    assert record == {"in": 2, "out": 1, "dropped": {"word_ratio": 1}}
    assert (tmp_path / "out" / "00-00000.en").read_text() == "a b\n"


def test_every_nth_line_is_held_out_across_parts(tmp_path, write):
    lines = [str(i) for i in range(1, 48)]
    for name, chunk in (("0", lines[:20]), ("1", lines[20:31]), ("2", lines[31:])):
        part(tmp_path, write, chunk, [f"t{line}" for line in chunk], name)
    bar = type("Bar", (), {"update": lambda self, n: None})()
    (tmp_path / "text").mkdir()
    found = write_text(
        tmp_path,
        None,
        [("0", 20), ("1", 11), ("2", 16)],
        "train",
        {"valid": HoldOut(every=23)},
        tmp_path / "text",
        ["en", "de"],
        15,
        bar,
    )
    valid = (tmp_path / "text" / "valid.de").read_text().split()
    train = (tmp_path / "text" / "train.en").read_text().split()
    assert valid == ["t23", "t46"]
    assert train == [line for line in lines if int(line) % 23]
    assert (found["train"]["lines"], found["valid"]["lines"]) == (45, 2)
    data = (tmp_path / "text" / "train.en").read_bytes()
    pieces = [data[slice(*span[1])].count(b"\n") for span in found["train"]["ranges"]]
    assert pieces == [span[0] for span in found["train"]["ranges"]] and sum(pieces) == 45


def test_translations_of_one_sentence_stay_in_one_split():
    holders = {"valid": HoldOut(per_mille=200, by="en"), "test": HoldOut(per_mille=200, by="en")}
    pairs = [(f"s{i % 300}", f"t{i}") for i in range(900)]
    splits = {}
    for number, pair in enumerate(pairs, 1):
        splits.setdefault(pair[0], set()).add(split_of(holders, number, pair, ["en", "de"]))
    assert all(len(found) == 1 for found in splits.values())
    counts = Counter(next(iter(found)) for found in splits.values())
    assert 30 < counts["valid"] < 90 and 30 < counts["test"] < 90


def test_a_sample_is_spread_over_all_files_and_keeps_to_its_cap(tmp_path, write):
    paths = [
        write(tmp_path / "a", [f"a{i}" for i in range(50)]),
        write(tmp_path / "b", [f"b{i}" for i in range(50)]),
    ]
    found = list(sample(paths, 100, 30))
    assert len(found) == 25 and found[0] == "a0" and found[-1] == "b46"
    assert len(list(sample(paths, 100, 100))) == 100


def test_a_model_holds_no_path_and_is_the_same_every_time(tmp_path, write, sentences):
    models = []
    for folder in ("one", "another"):
        path = write(tmp_path / folder / "text", sentences("en", 300))
        learn_sentencepiece(SentencePiece(vocab_size=300), [path], 300, tmp_path / folder / "m")
        models.append((tmp_path / folder / "m").read_bytes())
    assert models[0] == models[1]
    assert b"another" not in models[0] and str(tmp_path).encode() not in models[0]


def test_a_vocabulary_too_small_for_the_characters_is_one_sentence(tmp_path, write, sentences):
    path = write(tmp_path / "text", sentences("en", 50))
    settings = SentencePiece(vocab_size=90)
    with pytest.raises(DataError, match="could not learn 90 pieces from 50 lines.*another vocab"):
        learn_sentencepiece(settings, [path], 50, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_small_text_gets_the_pieces_that_it_holds(tmp_path, write, sentences, kind):
    path = write(tmp_path / "text", sentences("en", 50))
    settings = SentencePiece(vocab_size=9000, model_type=kind)
    found = learn_sentencepiece(settings, [path], 50, tmp_path / "m")
    assert 256 < found["pieces"] < 9000


def test_merges_learned_from_counts_are_those_learned_from_text(tmp_path, sentences):
    learner = pytest.importorskip("subword_nmt.learn_bpe", reason="extra [data] is not installed")
    lines = sentences("de", 300)
    expected = io.StringIO()
    learner.learn_bpe(lines, expected, 50)
    learn_bpe(
        Bpe(merges=50), Counter(w for line in lines for w in line.split(" ")), tmp_path / "codes"
    )
    assert (tmp_path / "codes").read_text(encoding="utf-8") == expected.getvalue()


def test_byte_pair_encoding_without_its_package_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "subword_nmt.apply_bpe", None)
    (tmp_path / "codes").write_text("")
    with pytest.raises(DataError, match=r"extra \[data\], or choose --preparation modern"):
        BpeEncoder(tmp_path / "codes")


def test_encoded_pairs_are_left_out_by_their_numbers_of_subwords():
    lengths = [np.array(x, dtype=np.int32) for x in ([3, 0, 9, 4, 2], [3, 1, 2, 3, 8])]
    sides = [([], np.arange(x.sum(), dtype=np.int32), x) for x in lengths]
    kept, dropped = drop_by_length(Filters(min_words=1, max_words=8, word_ratio=1.5), sides)
    assert dropped == {"min_words": 1, "max_words": 1, "word_ratio": 1}
    assert [side[2].tolist() for side in kept] == [[3, 4], [3, 3]]
    assert kept[0][1].tolist() == [0, 1, 2, 12, 13, 14, 15]


def test_a_step_with_another_key_is_emptied_and_one_with_the_same_key_kept(tmp_path):
    step = Step.after("clean/train", tmp_path, {"a": 1})
    step.start()
    (step.folder / "part").write_text("x")
    step.start()
    assert (step.folder / "part").exists() and step.record() is None
    step.finish({"out": 3})
    assert step.record() == {"out": 3}
    changed = Step.after("clean/train", tmp_path, {"a": 2})
    assert changed.record() is None
    changed.start()
    assert not (step.folder / "part").exists()


def test_a_step_whose_output_is_gone_is_not_done(tmp_path):
    step = Step.after("text/train", tmp_path / "work", {})
    step.start()
    (tmp_path / "train.de").write_text("12345")
    step.finish({"outputs": {"train.de": 5}})
    assert step.record(tmp_path) is not None
    (tmp_path / "train.de").write_text("123")
    assert step.record(tmp_path) is None


def test_a_damaged_state_file_means_that_there_is_work_to_do(tmp_path):
    step = Step.after("x", tmp_path, {})
    step.start()
    step.finish({})
    step.state.write_text(json.dumps({"key": step.key})[:10])
    assert step.record() is None


@pytest.mark.parametrize(("training", "end"), [(True, "&apos;"), (False, "&apos; ")])
def test_a_final_space_of_moses_is_stripped_where_moses_own_cleaning_would(
    tmp_path, write, training, end
):
    part(tmp_path / "in", write, ["He said 'so.'"], ["Er sagte so"])
    (tmp_path / "out").mkdir()
    settings = Tokenise(filters=Filters(max_words=9))
    tokenise_part(
        tmp_path / "in", None, tmp_path / "out", "00-00000", settings, ["en", "de"], training
    )
    assert (tmp_path / "out" / "00-00000.en").read_text() == f"He said &apos; so . {end}\n"
