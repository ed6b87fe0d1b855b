"""ONE: knowledge distillation by on-the-fly native ensemble (Lan et al., NeurIPS 2018).

Paper: https://arxiv.org/abs/1806.04606. Code: https://github.com/Lan1991Xu/ONE_NeurIPS2018
(``cifar_one.py``, ``models/cifar/resnet.py`` at 54afde3).

A gate on the trunk's features h mixes the leaves' logits into an ensemble, which learns from the
label and teaches every leaf::

    L = sum_k CE(z_k, y)  +  CE(z_e, y)  +  s w(e) T^2 sum_k KL(q(z_e) || q(z_k)),
    z_e = sum_k g_k z_k,    g = softmax(ReLU(norm(W h + b))),    q(z) = softmax(z / T)

* Strength ``s`` = 1, temperature ``T`` = 3; ramp-up ``w(e) = exp(-5 (1 - e)^2)`` over the first 80
  of 300 epochs.
* Direction: ``KL(ensemble || leaf)``. Detached: the ensemble, so that the gate learns from its own
  task loss alone. The OKDDip repository does not detach it: ``detach`` no.
* Summed over leaves. The paper has three branches, the preset ``fork`` four.
* The leader is deployed alone; the ensemble exists in training only.

Deviations. Images pool the trunk's map and normalise the gate's scores over the batch; rows of text
normalise the trunk's feature instead (LayerNorm), because a norm over a handful of scores would
saturate them.
"""

from dataclasses import dataclass, replace
from typing import Dict, Tuple

from torch import Tensor

from tsa_mt.branches import BranchOutputs, Predictions, log_softmax
from tsa_mt.objectives.base import LEAVES, Context, LossTerms, Objective, register_objective
from tsa_mt.objectives.config import (
    RampedConfig,
    detach_option,
    rampup_option,
    strength_option,
    temperature_option,
)
from tsa_mt.objectives.functional import cross_entropy, mixture, paired_kl


@dataclass(frozen=True)
class ONEConfig(RampedConfig):
    """Options of `ONE`."""

    strength: float = strength_option(1.0)
    temperature: float = temperature_option(3.0)
    rampup: float = rampup_option(80, 300)
    detach: bool = detach_option(True)


@register_objective("one")
class ONE(Objective):
    """A gated ensemble teaches its members; see the module's docstring."""

    Config = ONEConfig
    default_tree = "fork"
    ordered = True

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if self.leaves > 1:
            self.gate = self.fusion.trunk_gate(self.trunk_dim, self.leaves)

    @property
    def gradients(self) -> Dict[str, Tuple[str, ...]]:
        """See `Objective.gradients`."""
        return {
            "task": LEAVES,
            "ensemble_task": (*LEAVES, "gates"),
            "distillation": LEAVES if self.config.detach else (*LEAVES, "gates"),
        }

    def fuse(self, outputs: BranchOutputs) -> BranchOutputs:
        """Adds the gate ``ensemble``: ``(..., 1, leaves)``, summing to 1."""
        if self.leaves == 1:
            return outputs
        if outputs.trunk is None:
            raise ValueError(
                f"objective {self.name!r} has a gate on the trunk's features; pass trunk=, a "
                f"(rows, {self.trunk_dim}) tensor"
            )
        return replace(outputs, gates={"ensemble": self.gate(outputs.trunk).unsqueeze(-2)})

    def terms(
        self, predictions: Predictions, target: Tensor, gates: Dict[str, Tensor], context: Context
    ) -> LossTerms:
        """See `Objective.terms`; terms are ``task``, ``ensemble_task`` and ``distillation``."""
        task = self.task_losses(predictions, target, context).sum()
        if self.leaves == 1:
            return self.task_alone(task)
        ensemble = mixture(predictions.logits, gates["ensemble"])
        own = cross_entropy(log_softmax(ensemble), target, context.label_smoothing).sum()
        temperature = self.config.temperature
        targets = log_softmax(ensemble.detach() if self.config.detach else ensemble, temperature)
        pairs = [(0, 1 + leaf) for leaf in range(self.leaves)]
        divergence = paired_kl(pairs, targets, predictions.log_probs(temperature)).sum()
        scale = self.config.strength * self.ramp(context) * temperature**2
        return {"task": task, "ensemble_task": own, "distillation": scale * divergence}
