"""The steps between extracted pairs and encoded text, each on its own."""

import hashlib
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
from dataprep.text import HeldOut, fitted, split_of, write_text
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


def test_words_are_kept_whole_and_references_need_a_semicolon(tmp_path, write):
    settings = Clean(unescape=True, control_characters=True)
    pairs = [("می\u200cخواهم", "Donau\u00addampfer &copy 2020 &amp;")]
    kept, _ = cleaned(tmp_path, write, settings, pairs)
    assert kept == [("می\u200cخواهم", "Donaudampfer &copy 2020 &")]


def test_raw_targets_are_left_as_they_are(tmp_path, write):
    settings = Clean(unescape=True, control_characters=True, evaluation_characters={"’": "'"})
    part(tmp_path / "in", write, [" a &amp;  b’s\u00ad"], [" c &amp;  d’s\u00ad\u200b "])
    (tmp_path / "out").mkdir()
    clean_part(tmp_path / "in", tmp_path / "out", "00-00000", settings, ["en", "de"], False, True)
    texts = [(tmp_path / "out" / f"00-00000.{c}").read_text() for c in ("en", "de")]
    assert texts == ["a & b's\n", " c &amp;  d’s\u00ad\u200b \n"]


@pytest.mark.parametrize(
    ("pair", "kept"),
    [
        (("environmental protection", "环境保护"), True),
        (("the United Nations Security Council", "联合国安全理事会"), True),
        (("a dog", "这是一只非常大的狗在公园里"), False),
        (("protection of the natural environment", "狗"), False),
        (("protection", "protection of the natural environment in it"), False),
        (("I like to go for a walk", "私は散歩が好きです"), True),
    ],
)
def test_the_ratio_of_characters_suits_the_scripts_that_are_seen(tmp_path, write, pair, kept):
    found, _ = cleaned(tmp_path, write, Clean(filters=Filters(char_ratio=4)), [pair])
    assert found == ([pair] if kept else [])


def test_words_are_counted_where_a_script_writes_no_spaces(tmp_path, write):
    filters = Filters(min_words=2, max_words=8, word_ratio=1.5)
    pairs = [("I like walks in the park", "我喜欢在公园里散步"), ("a b", "ฉันชอบเดินเล่นในสวนสาธารณะ")]
    kept, record = cleaned(tmp_path, write, Clean(filters=filters), pairs)
    assert kept == pairs[:1] and record["dropped"] == {"word_ratio": 1}


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


BAR = type("Bar", (), {"update": lambda self, n: None})()


def written(tmp_path, write, parts, holders=None, known=None, keep=False):
    """Write training text from parts of pairs; returns what `write_text` says and the pairs."""
    for name, pairs in parts.items():
        part(tmp_path, write, *zip(*pairs, strict=True), name)
    (tmp_path / "text").mkdir(exist_ok=True)
    sizes = [(name, len(pairs)) for name, pairs in parts.items()]
    folder, languages = tmp_path / "text", ["en", "de"]
    found = write_text(
        tmp_path, None, sizes, "train", holders or {}, folder, languages, 15, BAR, known, keep
    )
    sides = [(folder / f"train.{code}").read_text().split("\n")[:-1] for code in languages]
    return found, list(zip(*sides, strict=True))


def test_every_nth_line_is_held_out_across_parts(tmp_path, write):
    lines = [(str(i), f"t{i}") for i in range(1, 48)]
    parts = {"0": lines[:20], "1": lines[20:31], "2": lines[31:]}
    found, train = written(tmp_path, write, parts, {"valid": HoldOut(every=23)})
    valid = (tmp_path / "text" / "valid.de").read_text().split()
    assert valid == ["t23", "t46"]
    assert train == [pair for pair in lines if int(pair[0]) % 23]
    splits = found["splits"]
    assert (splits["train"]["lines"], splits["valid"]["lines"]) == (45, 2)
    data = (tmp_path / "text" / "train.en").read_bytes()
    pieces = [data[slice(*span[1])].count(b"\n") for span in splits["train"]["ranges"]]
    assert pieces == [span[0] for span in splits["train"]["ranges"]] and sum(pieces) == 45
    assert splits["train"]["sha256"][0] == hashlib.sha256(data).hexdigest()


def held_out_sets():
    known = HeldOut()
    known.add("valid", [["a", "b", ""], ["A", "B", ""]])
    known.add("test", [["c"], ["C"]])
    return known


PAIRS = [("a", "A"), ("a", "x"), ("y", "C"), ("b", "A"), ("z", ""), ("q", "Q")]
FOUND = {"valid both": 2, "valid source": 1, "test target": 1}


def test_pairs_with_a_sentence_of_a_test_set_are_left_out_and_counted_by_side(tmp_path, write):
    parts = {"0": PAIRS[:3], "1": PAIRS[3:]}
    found, train = written(tmp_path, write, parts, known=held_out_sets())
    assert train == [("z", ""), ("q", "Q")]
    assert (found["found"], found["kept"]) == (FOUND, False)


def test_pairs_with_a_sentence_of_a_test_set_are_only_counted_if_told_so(tmp_path, write):
    found, train = written(tmp_path, write, {"0": PAIRS}, known=held_out_sets(), keep=True)
    assert train == PAIRS
    assert (found["found"], found["kept"]) == (FOUND, True)


def test_pairs_stay_where_nothing_else_would(tmp_path, write):
    found, train = written(tmp_path, write, {"0": PAIRS[:2]}, known=held_out_sets())
    assert train == PAIRS[:2]
    assert found["found"] == {"valid both": 1, "valid source": 1} and found["kept"]


def test_sentences_of_a_held_out_split_are_looked_for_in_the_rest(tmp_path, write):
    pairs = [("a", "A"), ("b", "B"), ("c", "B"), ("b", "D"), ("e", "E")]
    found, train = written(
        tmp_path, write, {"0": pairs[:3], "1": pairs[3:]}, {"valid": HoldOut(every=4)}
    )
    assert train == [("a", "A"), ("c", "B"), ("e", "E")]
    assert found["found"] == {"valid source": 1}


@pytest.mark.parametrize(
    ("lines", "share"), [(1_000_000, 5), (100_000, 5), (39_000, 13), (10_000, 50), (300, 100)]
)
def test_a_small_text_gives_a_larger_share_to_its_validation_set(lines, share):
    hold = HoldOut(per_mille=5, by="en", at_least=500)
    assert fitted(hold, lines) == HoldOut(per_mille=share, by="en", at_least=500)
    assert fitted(HoldOut(every=23, at_least=500), lines).every == 23


def test_translations_of_one_sentence_stay_in_one_split():
    holders = {"valid": HoldOut(per_mille=200, by="en"), "test": HoldOut(per_mille=200, by="en")}
    pairs = [(f"s{i % 300}", f"t{i}") for i in range(900)]
    splits = {}
    for number, pair in enumerate(pairs, 1):
        splits.setdefault(pair[0], set()).add(split_of(holders, number, pair, ["en", "de"]))
    assert all(len(found) == 1 for found in splits.values())
    counts = Counter(next(iter(found)) for found in splits.values())
    assert 30 < counts["valid"] < 90 and 30 < counts["test"] < 90


@pytest.mark.parametrize(
    ("lines", "setting", "rule"),
    [
        (["Das Haus hat 80 m² und kostet ½ davon"], None, "nmt_nfkc"),
        (["Ελλάδα", "Россия", "Haus"], None, "nmt_nfkc"),
        (["我喜欢（真的！）在公园里散步", "I like it"], None, "identity"),
        (["กำลังทำงาน", "work"], None, "identity"),
        (["می\u200cخواهم بروم", "work"], None, "identity"),
        (["ड़ बड़ा", "big"], None, "identity"),
        (["我喜欢（真的！）", "I like it"], "nfkc", "nfkc"),
        (["Das Haus hat 80 m²", "x"], "identity", "identity"),
    ],
)
def test_the_pieces_spell_the_text_where_nfkc_would_change_it(
    tmp_path, write, lines, setting, rule
):
    import sentencepiece

    path = write(tmp_path / "text", lines * 20)
    settings = SentencePiece(vocab_size=350, normalisation=setting)
    facts = learn_sentencepiece(settings, [path], 20 * len(lines), tmp_path / "model")
    assert facts["normalisation"] == rule
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "model"))
    spelled = [model.decode(model.encode(line)) for line in lines]
    assert (spelled == lines) is (
        rule == "identity" or "²" not in lines[0] and "真" not in lines[0]
    )


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
