"""TSA: tree-structured auxiliary online knowledge distillation (Lin et al., IJCNN 2022).

Paper: https://arxiv.org/abs/2208.10068. Code: https://github.com/Linwenye/Tree-Supervised
(``train_tree.py`` at ba35668).

Every leaf k of the tree learns from the label and from every other leaf j, pair by pair::

    L = sum_k [ (1 - a) CE(z_k, y)  +  a T^2 / (K - 1)  sum_{j != k} KL(p_j || p_k) ],
    p_k = softmax(z_k / T)

* Weight ``a`` = .3, temperature ``T`` = 3 (the code's defaults), no ramp-up.
* Direction: the code has ``KL(p_j || p_k)`` (leaf k imitates leaf j), the paper writes the reverse.
  Summed over all ordered pairs both are the same number with the same gradient, as long as
  nothing is detached.
* Detached: nothing by default, as in the code. ``detach`` stops the gradient into the target
  (``train_tree_detach.py``); it roughly halves the distillation gradient, so that the same
  ``weight`` does not mean the same strength.
* Summed over leaves (a shared trunk sees the sum of all leaves' gradients).
* The paper's tree is the balanced 1-2-4 one (preset ``tsa``); all leaves are exchangeable and
  leaf 0 is kept.
"""

from dataclasses import dataclass
from typing import Dict

from torch import Tensor

from tsa_mt.branches import Predictions
from tsa_mt.objectives.base import Context, LossTerms, Objective, register_objective
from tsa_mt.objectives.config import (
    ObjectiveConfig,
    detach_option,
    share_option,
    temperature_option,
)
from tsa_mt.objectives.functional import pairwise_kl


@dataclass(frozen=True)
class TSAConfig(ObjectiveConfig):
    """Options of `TSA`."""

    weight: float = share_option(0.3)
    temperature: float = temperature_option(3.0)
    detach: bool = detach_option(False)


@register_objective("tsa")
class TSA(Objective):
    """Pairwise mutual distillation between all leaves; see the module's docstring."""

    Config = TSAConfig
    default_tree = "tsa"

    def terms(
        self, predictions: Predictions, target: Tensor, gates: Dict[str, Tensor], context: Context
    ) -> LossTerms:
        """See `Objective.terms`; terms are ``task`` and ``distillation``."""
        task = self.task_losses(predictions, target, context).sum()
        if predictions.leaves == 1:
            return {"task": task, "distillation": task.new_zeros(())}
        weight, temperature = self.config.weight, self.config.temperature
        scale = weight * temperature**2 / (predictions.leaves - 1)
        divergence = pairwise_kl(predictions.logits, self.config.detach, temperature)
        return {"task": (1.0 - weight) * task, "distillation": scale * divergence}
