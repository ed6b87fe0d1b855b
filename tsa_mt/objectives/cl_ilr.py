"""CL-ILR: collaborative learning with a shared trunk (Song and Chai, NeurIPS 2018).

Paper: https://arxiv.org/abs/1805.11761. Code: https://github.com/DefangChen/OKDDip-AAAI2020
(``train_one.py --avg --bpscale`` at c6a05de).

Every leaf k imitates the mean logit of the others, and what the leaves share is spared their sum::

    L = sum_k CE(z_k, y)  +  s w(e) sum_k T^2 KL(q(m_k) || q(z_k)),
    q(z) = softmax(z / T),    m_k = 1/(K-1) sum_{j != k} z_j

* Strength ``s`` = 1, temperature ``T`` = 3; ramp-up ``w(e) = exp(-5 (1 - e)^2)`` over the first 80
  of 300 epochs.
* Direction: ``KL(target || student)``. Detached: nothing, as in the code.
* Summed over leaves; but at every fork the gradient that flows back into the shared layers is
  divided by the number of branches (rescaling for hierarchical trees fork by fork). In a
  Transformer the same holds for what a branch sends into the encoder, and for the gradient of an
  output projection, divided by the number of leaves that share it. (The paper's branches have
  classifiers of their own; left alone, a projection that is the embedding as well would be pulled
  that many times harder from the output than from the input.)

Deviation: the code adds 1e-7 to the target's probabilities, we do not.
"""

from dataclasses import dataclass
from typing import Dict

from torch import Tensor

from tsa_mt.branches import Predictions
from tsa_mt.objectives.base import Context, LossTerms, Objective, register_objective
from tsa_mt.objectives.config import (
    RampedConfig,
    detach_option,
    rampup_option,
    strength_option,
    temperature_option,
)
from tsa_mt.objectives.targets import kl_to_mean_of_others


@dataclass(frozen=True)
class CLILRConfig(RampedConfig):
    """Options of `CLILR`."""

    strength: float = strength_option(1.0)
    temperature: float = temperature_option(3.0)
    rampup: float = rampup_option(80, 300)
    detach: bool = detach_option(False)


@register_objective("cl_ilr")
class CLILR(Objective):
    """Collaborative learning with rescaled gradients; see the module's docstring."""

    Config = CLILRConfig
    default_tree = "fork"
    rescales_shared = True

    def terms(
        self, predictions: Predictions, target: Tensor, gates: Dict[str, Tensor], context: Context
    ) -> LossTerms:
        """See `Objective.terms`; terms are ``task`` and ``distillation``."""
        task = self.task_losses(predictions, target, context).sum()
        if self.leaves == 1:
            return self.task_alone(task)
        temperature = self.config.temperature
        scale = self.config.strength * self.ramp(context) * temperature**2
        divergence = kl_to_mean_of_others(predictions, temperature, self.config.detach)
        return {"task": task, "distillation": scale * divergence}
