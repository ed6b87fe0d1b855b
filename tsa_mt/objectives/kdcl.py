"""KDCL: online knowledge distillation via collaborative learning (Guo et al., CVPR 2020).

Paper: https://openaccess.thecvf.com/content_CVPR_2020/html/Guo_Online_Knowledge_Distillation_via_Collaborative_Learning_CVPR_2020_paper.html
Code: https://github.com/shaoeric/Online-Knowledge-Distillation-via-Collaborative-Learning
(``train.py`` at 1ba5461; not the authors').

The naive variant: the mean logit of all leaves teaches each of them::

    L = sum_k [ (1 - a) CE(z_k, y)  +  a T^2 KL(q(m) || q(z_k)) ],
    q(z) = softmax(z / T),    m = 1/K sum_j z_j

* Weight ``a`` = .5, temperature ``T`` = 4, no ramp-up.
* Direction: ``KL(mean || leaf)``. Detached: the mean.
* Summed over leaves.
* Every leaf sees its own augmentation of an image (``own_augmentation``); text has none.
* With one leaf it is the plain task loss, of weight 1.

Not here: the paper's other ways of combining logits (linear, minimum, general). The paper's peers
are whole networks (tree ``peers``).
"""  # noqa: E501

from dataclasses import dataclass
from typing import Dict

import torch
from torch import Tensor

from tsa_mt.branches import Predictions, log_softmax
from tsa_mt.objectives.base import Context, LossTerms, Objective, register_objective
from tsa_mt.objectives.config import (
    ObjectiveConfig,
    detach_option,
    own_augmentation_option,
    share_option,
    temperature_option,
)
from tsa_mt.objectives.functional import paired_kl


@dataclass(frozen=True)
class KDCLConfig(ObjectiveConfig):
    """Options of `KDCL`."""

    weight: float = share_option(0.5)
    temperature: float = temperature_option(4.0)
    detach: bool = detach_option(True)
    own_augmentation: bool = own_augmentation_option(True)


@register_objective("kdcl")
class KDCL(Objective):
    """The mean of all leaves teaches each of them; see the module's docstring."""

    Config = KDCLConfig
    default_tree = "peers"

    def terms(
        self, predictions: Predictions, target: Tensor, gates: Dict[str, Tensor], context: Context
    ) -> LossTerms:
        """See `Objective.terms`; terms are ``task`` and ``distillation``."""
        task = self.task_losses(predictions, target, context).sum()
        if self.leaves == 1:
            return self.task_alone(task)
        weight, temperature = self.config.weight, self.config.temperature
        logits = predictions.logits.detach() if self.config.detach else predictions.logits
        wide = torch.promote_types(logits.dtype, torch.float32)
        mean = log_softmax(logits.mean(0, keepdim=True, dtype=wide), temperature)
        pairs = [(0, 1 + leaf) for leaf in range(self.leaves)]
        divergence = paired_kl(pairs, mean, predictions.log_probs(temperature)).sum()
        return {
            "task": (1.0 - weight) * task,
            "distillation": weight * temperature**2 * divergence,
        }
