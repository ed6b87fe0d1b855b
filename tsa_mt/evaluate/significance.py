"""Whether one system really scores better than another: paired bootstrap resampling.

Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation",
https://aclanthology.org/W04-3250. sacreBLEU's own implementation computes it, so that its figures
can be compared with those of ``sacrebleu --paired-bs``; this file checks what goes in and mends
two traps: sacreBLEU calls a system significantly different from its own copy (p = 1 / (n + 1)), and
takes seed 0 for "no seed" in one of two places.
"""

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from tsa_mt.evaluate.score import DEFAULT_METRICS, build_metric, check_lengths

SAMPLES = 1000
SEED = 12345
_SEED_VARIABLE = "SACREBLEU_SEED"


@dataclass(frozen=True)
class PairedScore:
    """What the bootstrap says about one system under one metric.

    Attributes:
        score: The score on the whole test set, on a scale to 100.
        mean: The mean over the resampled test sets.
        ci: Half the width of the 95 % confidence interval around ``mean``.
        p_value: How often so large a difference from the baseline would come about by chance;
            ``None`` for the baseline itself, 1 for a system whose text is the baseline's.
    """

    score: float
    mean: float
    ci: float
    p_value: Optional[float]


@dataclass(frozen=True)
class PairedBootstrap:
    """A comparison of systems with a baseline on the same sentences.

    Attributes:
        baseline: Name of the first system, which the others are compared with.
        samples: Number of resampled test sets.
        seed: Seed of the resampling.
        signatures: sacreBLEU's signature of every metric, the bootstrap's settings included.
        scores: ``scores[system][metric]``, in the order of the systems; metrics are called as
            sacreBLEU calls them, for instance ``chrF2``.
    """

    baseline: str
    samples: int
    seed: int
    signatures: Dict[str, str]
    scores: Dict[str, Dict[str, PairedScore]]


def paired_bootstrap(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str] = DEFAULT_METRICS,
    samples: int = SAMPLES,
    seed: int = SEED,
    lowercase: bool = False,
    tokenize: str = "13a",
) -> PairedBootstrap:
    """Compares systems with the first of them.

    Args:
        systems: Name -> detokenised translations; the first is the baseline.
        references: One or more sets of references, each as long as every system.
        metrics: Names from `METRICS`.
        samples: How many test sets to draw; p-values are no smaller than 1 / (samples + 1).
        seed: Seed of the drawing; systems meet on the same draws.
        lowercase: Ignore case in BLEU and chrF (TER always does).
        tokenize: sacreBLEU's tokeniser for BLEU.

    Raises:
        ValueError: There are fewer than two systems, lengths differ, or ``samples`` or ``seed`` is
            not positive.
    """
    from sacrebleu.significance import PairedTest

    _check(systems, references, samples, seed)
    texts = {name: list(lines) for name, lines in systems.items()}
    built = {name: build_metric(name, lowercase, tokenize) for name in metrics}
    with _sacrebleu_seed(seed):
        test = PairedTest(
            list(texts.items()), built, [list(lines) for lines in references], "bs", samples
        )
        signatures, columns = test()
    baseline = next(iter(texts))
    same = {name for name, lines in texts.items() if lines == texts[baseline]}
    scores = {
        name: {
            metric: _paired_score(columns[metric][row], name == baseline, name in same)
            for metric in signatures
        }
        for row, name in enumerate(texts)
    }
    lines = {metric: str(signature) for metric, signature in signatures.items()}
    return PairedBootstrap(baseline, samples, seed, lines, scores)


def _paired_score(result: Any, is_baseline: bool, is_copy: bool) -> PairedScore:
    p_value = None if is_baseline else 1.0 if is_copy else float(result.p_value)
    return PairedScore(float(result.score), float(result.mean), float(result.ci), p_value)


def _check(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    samples: int,
    seed: int,
) -> None:
    if len(systems) < 2:
        raise ValueError(
            f"a paired test needs a baseline and at least one other system, got {len(systems)}"
        )
    if samples < 1 or seed < 1:
        raise ValueError(
            f"samples and seed of a paired test are whole numbers from 1, got samples {samples} "
            f"and seed {seed}"
        )
    for name, lines in systems.items():
        check_lengths(lines, references, name)


@contextmanager
def _sacrebleu_seed(seed: int) -> Iterator[None]:
    """Sets the variable that is sacreBLEU's only way to take a seed, and restores it."""
    before = os.environ.get(_SEED_VARIABLE)
    os.environ[_SEED_VARIABLE] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SEED_VARIABLE]
        else:
            os.environ[_SEED_VARIABLE] = before


def verdicts(comparison: PairedBootstrap, level: float = 0.05) -> List[str]:
    """One sentence a system and metric: better, worse, or no difference that could be shown.

    Args:
        comparison: The result of `paired_bootstrap`.
        level: The p-value below which a difference counts as significant.
    """
    return [
        _verdict(name, metric, score, comparison.scores[comparison.baseline][metric], level)
        for name, row in comparison.scores.items()
        for metric, score in row.items()
        if score.p_value is not None
    ]


def _verdict(
    name: str, metric: str, score: PairedScore, baseline: PairedScore, level: float
) -> str:
    difference = score.score - baseline.score
    shown = f"{name}: {metric} {difference:+.2f}, p = {score.p_value:.4f}"
    if score.p_value is None or score.p_value >= level:
        return f"{shown}: no significant difference from the baseline"
    better = (difference < 0) if metric == "TER" else (difference > 0)
    return f"{shown}: significantly {'better' if better else 'worse'} than the baseline"
