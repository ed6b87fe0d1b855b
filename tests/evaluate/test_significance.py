"""Paired bootstrap: sacreBLEU's own figures, and the cases in which these mislead."""

import os

import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from tsa_mt.evaluate.significance import paired_bootstrap, verdicts

REFERENCE = [f"The {noun} sees the {noun} number {n} ." for n in range(12) for noun in "abcde"]


def spoiled(every):
    """The reference with a word replaced in every ``every``-th line."""
    return [
        line.replace("sees", "eats") if n % every == 0 else line for n, line in enumerate(REFERENCE)
    ]


SYSTEMS = {"base": spoiled(2), "better": spoiled(30), "alike": [*spoiled(2)]}


@pytest.fixture(scope="module")
def comparison():
    return paired_bootstrap(SYSTEMS, [REFERENCE], samples=200, seed=7)


def test_the_figures_are_sacrebleu_s_own(comparison, monkeypatch):
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    metrics = {"BLEU": BLEU(), "chrF2": CHRF()}
    signatures, scores = PairedTest(list(SYSTEMS.items()), metrics, [REFERENCE], "bs", 200)()
    for metric in metrics:
        assert comparison.signatures[metric] == str(signatures[metric])
        for row, name in enumerate(SYSTEMS):
            got, expected = comparison.scores[name][metric], scores[metric][row]
            assert (got.score, got.mean, got.ci) == (expected.score, expected.mean, expected.ci)
        assert comparison.scores["better"][metric].p_value == scores[metric][1].p_value


def test_the_signature_has_the_seed_and_the_number_of_samples(comparison):
    assert "bs:200|seed:7" in comparison.signatures["BLEU"]


def test_the_first_system_is_the_baseline_and_has_no_p_value(comparison):
    assert comparison.baseline == "base"
    assert {entry.p_value for entry in comparison.scores["base"].values()} == {None}


def test_a_system_does_not_differ_from_its_own_copy(comparison):
    """sacreBLEU itself finds p = 1 / (samples + 1), which is the strongest finding there is."""
    assert [entry.p_value for entry in comparison.scores["alike"].values()] == [1.0, 1.0]


def test_a_verdict_is_a_sentence_a_system_and_metric(comparison):
    found = verdicts(comparison)
    assert len(found) == 4
    assert found[0].startswith("better: BLEU +") and found[0].endswith("better than the baseline")
    assert found[2] == "alike: BLEU +0.00, p = 1.0000: no significant difference from the baseline"


def test_less_translation_error_is_better():
    systems = {"base": spoiled(2), "better": spoiled(30)}
    (sentence,) = verdicts(paired_bootstrap(systems, [REFERENCE], ["ter"], samples=100))
    assert sentence.startswith("better: TER -")
    assert sentence.endswith("significantly better than the baseline")


def test_several_references_and_the_tokeniser_reach_sacrebleu():
    systems = {"a": ["EIN HAUS"] * 3, "b": ["ein haus"] * 3}
    references = [["ein haus"] * 3, ["kein haus"] * 3]
    found = paired_bootstrap(systems, references, ["bleu"], 10, lowercase=True, tokenize="char")
    assert "nrefs:2|" in found.signatures["BLEU"]
    assert "case:lc|" in found.signatures["BLEU"] and "tok:char" in found.signatures["BLEU"]
    assert found.scores["a"]["BLEU"].score == pytest.approx(100)


@pytest.mark.parametrize("before", [None, "99"])
def test_the_environment_is_as_before(before, monkeypatch):
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    if before:
        monkeypatch.setenv("SACREBLEU_SEED", before)
    paired_bootstrap({"a": ["a b"], "b": ["a"]}, [["a b"]], ["chrf"], samples=5)
    assert os.environ.get("SACREBLEU_SEED") == before


def test_one_system_cannot_be_compared():
    with pytest.raises(ValueError, match="at least one other system, got 1"):
        paired_bootstrap({"a": ["a"]}, [["a"]])


def test_systems_of_another_length_are_named():
    with pytest.raises(ValueError, match="b: 1 hypotheses but 2 lines in reference:"):
        paired_bootstrap({"a": ["a", "b"], "b": ["a"]}, [["a", "b"]])


@pytest.mark.parametrize(("samples", "seed"), [(0, 1), (10, 0), (10, -3)])
def test_samples_and_seed_are_positive(samples, seed):
    with pytest.raises(ValueError, match=f"from 1, got samples {samples} and seed {seed}"):
        paired_bootstrap({"a": ["a"], "b": ["a"]}, [["a"]], samples=samples, seed=seed)
