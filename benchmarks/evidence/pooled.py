"""One test for all seeds together, beside the tests seed by seed that ``tsa-mt compare`` makes.

Koehn's paired bootstrap with the seeds of a system taken as one: a drawn sentence counts with its
translations by every seed, so that seeds do not pass for further sentences. It says whether these
seeds together differ on sentences like these. What another seed would give is what the standard
deviation is for. Two-sided: sacreBLEU's test counts differences in one direction, so its p is about
half as large.
"""

from typing import List, Sequence, Tuple

import numpy as np
from sacrebleu.metrics import BLEU

SAMPLES, SEED = 1000, 12345


def pooled_difference(
    ours: Sequence[Sequence[str]], theirs: Sequence[Sequence[str]], references: Sequence[str]
) -> Tuple[float, float]:
    """BLEU of all seeds' translations together, minus the others', and the p-value.

    Args:
        ours: Translations by every seed, each as long as ``references``.
        theirs: Those of the baseline.
        references: Raw references.

    Raises:
        ValueError: A list of translations has another length.
    """
    counts = [_statistics(texts, references) for texts in (ours, theirs)]
    draws = np.random.default_rng(SEED).integers(len(references), size=(SAMPLES, len(references)))
    difference = _bleu(counts[0].sum(0)) - _bleu(counts[1].sum(0))
    drawn = np.array([_bleu(counts[0][d].sum(0)) - _bleu(counts[1][d].sum(0)) for d in draws])
    as_large = np.abs(drawn - drawn.mean()) >= abs(difference)
    return difference, (float(as_large.sum()) + 1) / (SAMPLES + 1)


def _statistics(texts: Sequence[Sequence[str]], references: Sequence[str]) -> np.ndarray:
    """Lengths and n-gram counts of every sentence, summed over seeds; (sentences, statistics).

    They come from a method that sacreBLEU's own tests of significance use and that is not public.
    """
    wrong = [len(lines) for lines in texts if len(lines) != len(references)]
    if wrong:
        raise ValueError(f"{wrong[0]} translations for {len(references)} references")
    rows: List[np.ndarray] = [
        np.array(BLEU()._extract_corpus_statistics(list(lines), [list(references)]))
        for lines in texts
    ]
    return np.sum(rows, axis=0)


def _bleu(counts: np.ndarray) -> float:
    return BLEU()._compute_score_from_stats(counts.tolist()).score
