"""The demo corpus: its German, its splits, and that it is the same everywhere."""

import importlib
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
MODULES = ("grammar", "lexicon", "frames", "sentences", "corpus")
SIZES = {"train": 4000, "valid": 150, "test": 150}
pytest.importorskip("babel", reason="the demo corpus needs Babel, the extra [demo]")


@pytest.fixture(scope="module")
def demo():
    """The modules of the demo, imported as its own scripts import them."""
    sys.path.insert(0, str(DEMO))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(DEMO))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def corpus(demo):
    """A smaller corpus than the demo's own."""
    return demo.corpus.make_corpus(SIZES)


def clause(demo, verb, german, english="", tense="present", person="er"):
    subject = demo.grammar.Phrase("Anna", {"nom": "Anna"}, person)
    return demo.grammar.Clause(subject, demo.frames.VERBS[verb], tense, english, german)


def phrase(demo, english, determiner, adjective, plural=False, kind="human"):
    line = next(
        line.strip() for line in demo.lexicon.NOUNS[kind].split("\n") if f" {english}," in line
    )
    fields = line.split(",")
    noun = demo.grammar.Noun(*fields[:6], weak=len(fields) == 7)
    pool = demo.lexicon.PLURAL if plural else demo.lexicon.SINGULAR
    chosen = next(d for _, d in pool if d.english == determiner)
    return demo.grammar.noun_phrase(chosen, adjective, noun, plural)


@pytest.mark.parametrize(
    ("english", "determiner", "adjective", "plural", "kind", "expected"),
    [
        (
            "customer",
            "the",
            ("old", "alt"),
            False,
            "human",
            "der alte Kunde|den alten Kunden|dem alten Kunden|des alten Kunden",
        ),
        (
            "daughter",
            "a",
            ("clever", "klug"),
            False,
            "human",
            "eine kluge Tochter|eine kluge Tochter|einer klugen Tochter|einer klugen Tochter",
        ),
        (
            "child",
            "every",
            ("tired", "müd"),
            False,
            "human",
            "jedes müde Kind|jedes müde Kind|jedem müden Kind|jedes müden Kindes",
        ),
        (
            "man",
            "two",
            ("rich", "reich"),
            True,
            "human",
            "zwei reiche Männer|zwei reiche Männer|zwei reichen Männern|zwei reicher Männer",
        ),
        (
            "house",
            "my",
            ("dark", "dunkl"),
            False,
            "building",
            "mein dunkles Haus|mein dunkles Haus|meinem dunklen Haus|meines dunklen Hauses",
        ),
        (
            "car",
            "these",
            ("", ""),
            True,
            "thing",
            "diese Autos|diese Autos|diesen Autos|dieser Autos",
        ),
    ],
)
def test_determiner_adjective_and_noun_agree(
    demo, english, determiner, adjective, plural, kind, expected
):
    made = phrase(demo, english, determiner, adjective, plural, kind)
    assert [made.german[case] for case in demo.grammar.CASES] == expected.split("|")


def test_a_becomes_an_before_a_vowel(demo):
    assert phrase(demo, "engineer", "a", ("", "")).english == "an engineer"
    assert phrase(demo, "engineer", "a", ("young", "jung")).english == "a young engineer"
    assert phrase(demo, "woman", "a", ("old", "alt")).english == "an old woman"


def test_a_separable_verb_separates_in_a_main_clause_only(demo):
    made = clause(demo, "ab|holen", "den Gast")
    assert made.main() == "Anna holt den Gast ab"
    assert made.inverted() == "holt Anna den Gast ab"
    assert made.final() == "Anna den Gast abholt"
    assert made.with_zu() == "den Gast abzuholen"
    assert made.polite_imperative() == "holen Sie bitte den Gast ab"


@pytest.mark.parametrize(
    ("tense", "main", "final"),
    [
        ("past", "Anna ist in Rom angekommen", "Anna in Rom angekommen ist"),
        ("future", "Anna wird in Rom ankommen", "Anna in Rom ankommen wird"),
        ("must", "Anna muss in Rom ankommen", "Anna in Rom ankommen muss"),
    ],
)
def test_the_second_part_of_the_verb_closes_the_clause(demo, tense, main, final):
    made = clause(demo, "an|kommen", "in Rom", tense=tense)
    assert (made.main(), made.final()) == (main, final)


@pytest.mark.parametrize(
    ("tense", "statement", "question", "negation"),
    [
        ("present", "Anna buys it", "does Anna buy it", "Anna does not buy it"),
        ("past", "Anna bought it", "did Anna buy it", "Anna did not buy it"),
        ("future", "Anna will buy it", "will Anna buy it", "Anna will not buy it"),
        ("can", "Anna can buy it", "can Anna buy it", "Anna cannot buy it"),
        ("want", "Anna wants to buy it", "does Anna want to buy it", None),
        ("like", "Anna would like to buy it", "would Anna like to buy it", None),
    ],
)
def test_english_questions_and_negations_have_the_right_auxiliary(
    demo, tense, statement, question, negation
):
    made = clause(demo, "kaufen", "", "it", tense)
    assert (made.statement(), made.question()) == (statement, question)
    assert negation is None or made.negation() == negation


def test_to_be_needs_no_auxiliary(demo):
    made = clause(demo, "sein", "2 Meter hoch", "2 meters high", person="sie")
    assert made.statement() == "Anna are 2 meters high"
    assert made.question() == "are Anna 2 meters high"
    assert made.main() == "Anna sind 2 Meter hoch"


@pytest.mark.parametrize(
    ("kind", "english", "german"),
    [
        ("time", "3:15 PM", "15:15 Uhr"),
        ("date", "March 5", "5. März"),
        ("weekday", "Wednesday", "Mittwoch"),
        ("city", "Vienna", "Wien"),
        ("language", "Greek", "Griechisch"),
        ("ago", "3 days ago", "vor 3 Tagen"),
        ("hence", "in 2 months", "in 2 Monaten"),
    ],
)
def test_names_and_dates_follow_cldr(demo, kind, english, german):
    found = {atom.key: atom for atom in demo.lexicon.KINDS[kind]}
    assert f"{found[english].make(None)}" == german


def test_numbers_change_their_separators(demo):
    pairs = [
        (atom.key, f"{atom.make(None)}")
        for kind in ("money", "count", "percent", "weight")
        for atom in demo.lexicon.KINDS[kind]
    ]
    swapped = str.maketrans(",.", ".,")
    for english, german in pairs:
        figures = [re.search(r"\d[\d.,]*", text)[0] for text in (english, german)]
        assert figures[0].translate(swapped) == figures[1]


def test_countries_with_an_article_take_it_in_every_form(demo):
    countries = {atom.key: atom.make(None) for atom in demo.lexicon.KINDS["country"]}
    assert f"{countries['Switzerland']:to}" == "in die Schweiz"
    assert f"{countries['the Netherlands']:from}" == "aus den Niederlanden"
    assert f"{countries['the United States']:in}" == "in den Vereinigten Staaten"
    assert f"{countries['France']:to}" == "nach Frankreich"


def test_prepositions_and_articles_contract(demo):
    contract = demo.sentences.contract
    assert contract("in dem Turm zu der Feier an dem Kurs") == "im Turm zur Feier am Kurs"
    assert contract("in den Türmen von dem Kind") == "in den Türmen von dem Kind"


def test_there_are_many_templates_and_fillers(demo):
    assert len(demo.frames.FRAMES) >= 60
    assert sum(len(atoms) for atoms in demo.lexicon.KINDS.values()) > 2000
    assert sum(demo.corpus.SIZES.values()) >= 20_000


def test_every_slot_of_every_template_is_split_three_ways(demo):
    for frame in demo.frames.FRAMES:
        for slot in frame.slots:
            kind = slot.rstrip("0123456789")
            pools = [
                {atom.key for atom in demo.sentences.pool(frame.name, slot, kind, split)}
                for split in ("train", "valid", "test")
            ]
            assert all(pools), (frame.name, slot)
            assert sum(map(len, pools)) == len(set.union(*pools)) == len(demo.lexicon.KINDS[kind])
            assert len(pools[0]) > len(pools[1]) + len(pools[2])


def test_every_kind_occurs_in_two_templates_so_that_its_held_out_fillers_are_known(demo):
    uses = defaultdict(set)
    for frame in demo.frames.FRAMES:
        for slot in (*frame.slots, frame.subject):
            uses[slot.rstrip("0123456789")].add(frame.name)
    for table in demo.sentences.WHEN.values():
        for line in table.strip().split("\n"):
            for slot in re.findall(r"\{(\w+)\}", line.split("|")[0]):
                uses[slot].add(line)
    assert [kind for kind, templates in uses.items() if len(templates) < 2] == []


def test_sizes_are_met_and_no_sentence_occurs_twice(corpus):
    assert {name: len(split.pairs) for name, split in corpus.items()} == SIZES
    sources = [english for split in corpus.values() for english, _ in split.pairs]
    assert len(sources) == len(set(sources))


def test_no_combination_of_template_and_filler_is_in_two_splits(corpus):
    train, valid, test = (corpus[name].combinations for name in ("train", "valid", "test"))
    assert test and valid
    assert not train & test
    assert not train & valid
    assert not valid & test


def test_what_the_test_split_is_made_of_is_known_from_training(corpus):
    for name in ("valid", "test"):
        assert corpus[name].templates <= corpus["train"].templates
        assert corpus[name].fillers <= corpus["train"].fillers


def test_the_overlap_that_is_printed_is_counted(demo):
    train = demo.corpus.Split([("A b.", "C d.")], {("t", "s", "f"), ("t", "s", "g")}, {"t"})
    test = demo.corpus.Split([("A b.", "C e.")], {("t", "s", "f"), ("u", "s", "g")}, {"t", "u"})
    rows = demo.corpus.overlap({"train": train, "test": test}).split("\n")
    counts = [tuple(map(int, re.findall(r"(\d+) of +(\d+)", row)[0])) for row in rows]
    assert counts == [(1, 1), (0, 1), (1, 2), (1, 2), (2, 2), (1, 2)]


def test_sentences_are_whole(corpus):
    for split in corpus.values():
        for pair in split.pairs:
            for text in pair:
                assert not text[0].islower() and text[-1] in ".?", text
                assert not re.search(r"[{}|\n\xa0\u202f]|  | [.,?]|,,", text), text


def test_a_conjunction_has_its_comma_and_the_verb_last(corpus):
    ends = r"(t|n|e|st|muss|kann|soll|will|wird|bin|sind)"
    conjunction = r"(weil|obwohl|bevor|während|bis|damit|dass|ob|wenn|sobald)"
    seen = 0
    for _, german in corpus["train"].pairs:
        assert not re.search(rf"[^,] {conjunction} (ich|er|wir|Frau|Herr)\b", german), german
        last = re.search(rf", {conjunction} [^,]*?(\w+)\.$", german)
        if last:
            seen += 1
            assert re.fullmatch(rf"\w*{ends}", last[2]), german
    assert seen > 200


def test_an_english_sentence_has_one_german_translation(demo):
    sampler, found = demo.sentences.Sampler("train", 7), defaultdict(set)
    for _ in range(10_000):
        english, german = sampler.sentence()
        found[english].add(german)
    assert [pair for pair in found.items() if len(pair[1]) > 1] == []


def test_every_process_makes_the_same_corpus(tmp_path):
    sizes = ["--train", "800", "--valid", "20", "--test", "20"]
    for seed in ("0", "1"):
        subprocess.run(
            [sys.executable, str(DEMO / "corpus.py"), str(tmp_path / seed), *sizes],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
    names = [f"{split}.{language}" for split in SIZES for language in ("en", "de")]
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
    assert len((tmp_path / "0" / "train.de").read_text(encoding="utf-8").split("\n")) == 801


def test_an_impossible_size_is_refused(demo, monkeypatch):
    with pytest.raises(ValueError, match="size of valid must be at least 1, got 0"):
        demo.corpus.make_corpus({"train": 50, "valid": 0, "test": 1})
    monkeypatch.setattr(demo.corpus, "PATIENCE", 50)
    with pytest.raises(ValueError, match=r"only \d+ different sentences for valid found, 900 "):
        demo.corpus.make_corpus({"train": 50, "valid": 900, "test": 1})


def test_without_babel_the_corpus_says_what_to_install(tmp_path):
    (tmp_path / "babel.py").write_text("raise ModuleNotFoundError('no', name='babel')\n")
    done = subprocess.run(
        [sys.executable, str(DEMO / "corpus.py"), str(tmp_path / "out")],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"corpus.py: error: Babel is not installed; run: .*demo.*\n", done.stderr)
