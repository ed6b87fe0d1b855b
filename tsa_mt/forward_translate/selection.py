"""Which of a sentence's n best translations the student learns from.

* ``model``: what the teacher finds most probable (sequence-level distillation).
* ``reference``: what is most like the reference, by a sentence's score (sequence-level
  interpolation). Both are Kim and Rush, EMNLP 2016, https://arxiv.org/abs/1606.07947.
* ``mbr``: what is most like all the others on average, the minimum Bayes risk decision over the
  n best (Kumar and Byrne, NAACL 2004, https://aclanthology.org/N04-1022). Every hypothesis counts
  alike.

Scores are sacreBLEU's for single sentences, of text without subword marks: chrF, or BLEU with the
effective order.
"""

from collections import Counter
from typing import Callable, NamedTuple, Optional, Sequence

METRICS = ("chrf", "bleu")
WAYS = ("model", "reference", "mbr")


class Hypothesis(NamedTuple):
    """A translation in the dictionary's symbols.

    Attributes:
        text: Its symbols, separated by spaces.
        score: The teacher's, its mean log-probability; unset where it was not kept.
    """

    text: str
    score: Optional[float] = None


class Selection:
    """A choice among the hypotheses of a sentence.

    Args:
        way: One of `WAYS`.
        metric: One of `METRICS`; ``model`` has no use for it.
        plain: Takes the subword marks out of a text.
    """

    def __init__(self, way: str, metric: str, plain: Callable[[str], str]):
        self.way = way
        self._plain = plain
        self._similar = _similarity(metric) if way != "model" else None

    @property
    def reads_references(self) -> bool:
        """Whether it needs the reference."""
        return self.way == "reference"

    def choose(self, hypotheses: Sequence[Hypothesis], reference: str = "") -> int:
        """Number of the chosen hypothesis; of equal ones the most probable.

        Args:
            hypotheses: The best first.
            reference: In the dictionary's symbols.
        """
        if self._similar is None:
            return 0
        texts = [self._plain(hypothesis.text) for hypothesis in hypotheses]
        others = Counter([self._plain(reference)] if self.reads_references else texts)
        scores = [
            sum(count * self._similar(text, other) for other, count in others.items())
            for text in texts
        ]
        return scores.index(max(scores))


def _similarity(metric: str) -> Callable[[str, str], float]:
    """sacreBLEU's score of one sentence against another."""
    from sacrebleu.metrics import BLEU, CHRF

    scorer = CHRF() if metric == "chrf" else BLEU(effective_order=True)
    return lambda text, other: scorer.sentence_score(text, [other]).score
