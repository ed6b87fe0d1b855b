"""SimCut: agreement with a pass over words that were cut out (Gao et al., NAACL 2022).

Paper: https://arxiv.org/abs/2206.02368. Code: https://github.com/gpengzhi/Bi-SimCut
(``label_smoothed_cross_entropy_with_simcut.py``, ``transformer_encoder.py`` and
``transformer_decoder.py`` at 4bcb9e1).

Token cutoff (Shen et al. 2020, https://arxiv.org/abs/2009.13818) with one divergence: a second pass
reads the same sentences with the embeddings of some words set to zero, and learns what the first
predicts::

    L = CE(z, y)  +  a KL(p || p_cut),    p = softmax(z)

* Weight ``a`` = 3, every word of the source and of the target is cut with probability ``p`` = .05,
  temperature 1, no ramp-up. Detached: nothing, as in the code; both passes get gradients.
* The task loss is that of the first pass alone, so its weight stays that of plain training.
  Summed over leaves.
* Zero is the embedding before positions are added. End marks stay, which are the last token of a
  source and the first that a decoder reads; padding is zero anyway.
* Every objective takes ``simcut_weight`` as an option: its terms are those of the first pass, and
  every leaf learns from its own uncut pass. This one is the plain task loss with that option set.
* One forward over the batch concatenated with itself; validation runs the first pass alone.
* Words alone are cut: images have none, and the option is refused there.
* Standalone call: the logits of the uncut pass, then of the cut one.

Bi-SimCut trains twice: first on both directions of the corpus together, then on one of them; see
examples/bi-simcut.
"""

import torch
from torch import Tensor

from tsa_mt.objectives import (
    LEAVES,
    Consistency,
    LossTerms,
    Option,
    Rows,
    register_consistency,
    register_objective,
)
from tsa_mt.objectives import functional as F
from tsa_mt.objectives.config import SIMCUT
from tsa_mt.objectives.independent import Independent


@register_objective("simcut")
class SimCut(Independent):
    """Task loss, and agreement with a pass over fewer words; see the module's docstring.

    Detached: nothing.
    Form: *published*: Gao et al. 2022, [code](https://github.com/gpengzhi/Bi-SimCut).
    """

    simcut_weight = Option.weight(3.0, SIMCUT)


@register_consistency("simcut_weight")
class CutAgreement(Consistency):
    """The terms of the uncut pass, and ``simcut``: every leaf's cut pass learns from its uncut."""

    taught_passes = 1
    alters = True
    cuts_words = True

    def altered(self, inputs: Tensor, number: int, fixed: Tensor | None = None) -> Tensor:
        """Cuts words out of what the second pass reads; see `Consistency.altered`."""
        return inputs if number == 0 else cut_words(inputs, self.config.simcut_p, fixed)

    @property
    def gradients(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.gradients`."""
        return {**super().gradients, "simcut": LEAVES}

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`."""
        terms = super().terms(self.passed(rows, 0))
        uncut, cut = self.by_pass(rows.log_probs())
        divergence = F.kl_divergence(uncut, cut)
        return {**terms, "simcut": self.config.simcut_weight * divergence}


def cut_words(embeddings: Tensor, share: float, fixed: Tensor | None = None) -> Tensor:
    """Embeddings with those of some words set to zero.

    Args:
        embeddings: ``(batch, length, dim)``.
        share: How probably a word is cut.
        fixed: ``(batch, length)``, true where nothing may be cut.
    """
    kept = torch.rand(embeddings.shape[:-1], device=embeddings.device) >= share
    if fixed is not None:
        kept = kept | fixed
    return embeddings * kept.unsqueeze(-1).to(embeddings.dtype)
