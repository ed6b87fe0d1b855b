"""benchmarks/evidence: one paired bootstrap for all seeds."""

import importlib.util
from pathlib import Path

import pytest
from sacrebleu.metrics import BLEU

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "evidence" / "pooled.py"
REFERENCES = [f"the dog number {n} runs over the green field at {n} o'clock" for n in range(60)]


@pytest.fixture(scope="module")
def pooled():
    spec = importlib.util.spec_from_file_location("pooled", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def damaged(every):
    """The references, every so manieth with an error."""
    return [
        line.replace("green", "red") if number % every == 0 else line
        for number, line in enumerate(REFERENCES)
    ]


def test_the_difference_is_that_of_sacrebleus_scores_over_all_seeds(pooled):
    ours, theirs = [damaged(7), damaged(5)], [damaged(2), damaged(3)]
    difference, p = pooled.pooled_difference(ours, theirs, REFERENCES)
    scores = [
        BLEU().corpus_score([line for lines in texts for line in lines], [REFERENCES * 2]).score
        for texts in (ours, theirs)
    ]
    assert difference == pytest.approx(scores[0] - scores[1])
    assert p < 0.01


def test_equal_systems_do_not_differ(pooled):
    same = [damaged(3)]
    assert pooled.pooled_difference(same, same, REFERENCES) == (0.0, 1.0)


def test_the_same_seed_twice_is_no_stronger_evidence_than_once(pooled):
    once = pooled.pooled_difference([damaged(4)], [damaged(3)], REFERENCES)
    twice = pooled.pooled_difference([damaged(4)] * 2, [damaged(3)] * 2, REFERENCES)
    assert twice == pytest.approx(once)


def test_translations_of_another_length_are_refused(pooled):
    with pytest.raises(ValueError, match="59 translations for 60 references"):
        pooled.pooled_difference([damaged(4)[1:]], [damaged(3)], REFERENCES)
