"""DML: deep mutual learning (Zhang et al., CVPR 2018), pair by pair and by the mean of the others.

Paper: https://arxiv.org/abs/1706.00384. Code of the second form:
https://github.com/DefangChen/OKDDip-AAAI2020 (``train_DML.py`` at c6a05de).

``dml``, the original: every leaf k imitates every other leaf j as it is, without temperature::

    L = sum_k [ CE(z_k, y)  +  s / (K - 1)  sum_{j != k} KL(p_j || p_k) ],    p_k = softmax(z_k / T)

* Strength ``s`` = 1, temperature ``T`` = 1 (at another one the KL is multiplied by ``T^2``).
* Detached: the target ``p_j``. The paper updates one network at a time and takes the others'
  predictions as given; all at once with constant targets has the same gradients.

``dml_mean``, as the OKDDip code's comparison has it: the target is the mean logit of the others::

    L = sum_k [ CE(z_k, y)  +  s T^2 KL(q(m_k) || q(z_k)) ],
    q(z) = softmax(z / T),    m_k = 1/(K-1) sum_{j != k} z_j

* Strength ``s`` = 1, temperature ``T`` = 3. Detached: nothing.

Both: direction ``KL(target || student)``, no ramp-up, summed over leaves (the mean over targets is
inside). The paper's peers are whole networks: tree ``peers`` (the default), ``--peer-encoders``;
every other tree works. Deviation: no 1e-7 in the target of ``dml_mean``.
"""

from dataclasses import dataclass
from typing import Dict

from torch import Tensor

from tsa_mt.branches import Predictions
from tsa_mt.objectives.base import Context, LossTerms, Objective, register_objective
from tsa_mt.objectives.config import (
    ObjectiveConfig,
    detach_option,
    strength_option,
    temperature_option,
)
from tsa_mt.objectives.functional import pairwise_kl
from tsa_mt.objectives.targets import kl_to_mean_of_others


@dataclass(frozen=True)
class DMLConfig(ObjectiveConfig):
    """Options of `DML`."""

    strength: float = strength_option(1.0)
    temperature: float = temperature_option(1.0)
    detach: bool = detach_option(True)


@dataclass(frozen=True)
class DMLMeanConfig(DMLConfig):
    """Options of `DMLMean`."""

    temperature: float = temperature_option(3.0)
    detach: bool = detach_option(False)


@register_objective("dml")
class DML(Objective):
    """Every leaf imitates every other one; see the module's docstring."""

    Config = DMLConfig
    default_tree = "peers"

    def terms(
        self, predictions: Predictions, target: Tensor, gates: Dict[str, Tensor], context: Context
    ) -> LossTerms:
        """See `Objective.terms`; terms are ``task`` and ``distillation``."""
        task = self.task_losses(predictions, target, context).sum()
        if self.leaves == 1:
            return self.task_alone(task)
        scale = self.config.strength * self.config.temperature**2
        return {"task": task, "distillation": scale * self.divergence(predictions)}

    def divergence(self, predictions: Predictions) -> Tensor:
        """KL of the leaves to what they imitate, summed over leaves and rows."""
        log_probs = predictions.log_probs(self.config.temperature)
        return pairwise_kl(log_probs, self.config.detach) / (self.leaves - 1)


@register_objective("dml_mean")
class DMLMean(DML):
    """Every leaf imitates the mean logit of the others; see the module's docstring."""

    Config = DMLMeanConfig

    def divergence(self, predictions: Predictions) -> Tensor:
        """See `DML.divergence`."""
        return kl_to_mean_of_others(predictions, self.config.temperature, self.config.detach)
