"""Word dropout: some sentences lose some words before the network reads them.

After the data dropout of UniDrop (Wu et al., NAACL 2021, https://arxiv.org/abs/2104.04946), whose
two stages it keeps: some sentences are read whole, and in the others every word is dropped with
probability ``word_dropout``. Ours: half the sentences are read whole, and a dropped word keeps its
place with an embedding of zero. UniDrop's other two parts are options of fairseq (``--dropout``,
``--encoder-layerdrop``), which this does not set.

* Off by default; every objective takes ``word_dropout`` as an option. Its terms stay what they are.
* Source and target sentences are drawn apart. End marks stay. In evaluation nothing is dropped.
"""

import torch
from torch import Tensor

from tsa_mt.objectives import Consistency, LossTerms, Rows, register_consistency
from tsa_mt.objectives.simcut import cut_words

WHOLE = 0.5
"""How probably a sentence is read whole."""


@register_consistency("word_dropout")
class WordDropout(Consistency):
    """One pass over fewer words; see the module's docstring."""

    passes = 1
    alters = True
    cuts_words = True

    def altered(self, inputs: Tensor, number: int, fixed: Tensor | None = None) -> Tensor:
        """Drops words of half the sentences; see `Consistency.altered`."""
        whole = torch.rand(inputs.shape[0], 1, device=inputs.device) < WHOLE
        fixed = whole.expand(inputs.shape[:2]) if fixed is None else whole | fixed
        return cut_words(inputs, self.config.word_dropout, fixed)

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`."""
        return super().terms(self.passed(rows, 0))
