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

from typing import Any

from tsa_mt.branches import BranchOutputs
from tsa_mt.objectives import LEAVES, LossTerms, Option, RampedObjective, Rows, register_objective
from tsa_mt.objectives import functional as F


@register_objective("one")
class ONE(RampedObjective):
    """A gated ensemble teaches its members; see the module's docstring.

    Detached: the ensemble (``--kd-detach``).
    Form: *by its code*: Lan et al. 2018, [code](https://github.com/Lan1991Xu/ONE_NeurIPS2018).
    """

    default_tree = "fork"
    ordered = True
    strength = Option.strength(1.0)
    temperature = Option.temperature(3.0)
    rampup = Option.rampup(80, of=300)
    detach = Option.detach(True)

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        if self.leaves > 1:
            self.gate = self.fusion.trunk_gate(self.trunk_dim, self.leaves)

    @property
    def gradients(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.gradients`."""
        gated = (*LEAVES, "gates")
        distilled = LEAVES if self.detach else gated
        return {"task": LEAVES, "ensemble_task": gated, "distillation": distilled}

    def fuse(self, outputs: BranchOutputs) -> BranchOutputs:
        """Adds the gate ``ensemble``: ``(..., 1, leaves)``, summing to 1."""
        if self.leaves == 1:
            return outputs
        if outputs.trunk is None:
            raise ValueError(
                f"objective {self.name!r} has a gate on the trunk's features; pass trunk=, a "
                f"(rows, {self.trunk_dim}) tensor"
            )
        return outputs.with_gate("ensemble", self.gate(outputs.trunk).unsqueeze(-2))

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; terms are ``task``, ``ensemble_task`` and ``distillation``."""
        if rows.leaves == 1:
            return rows.task_alone(self.gradients)
        task = rows.task_losses().sum()
        ensemble = F.mixture(rows.logits(), rows.gate("ensemble"))
        own = rows.task_loss_of(ensemble)
        targets = F.log_softmax(ensemble.detach() if self.detach else ensemble, self.temperature)
        pairs = [(0, 1 + leaf) for leaf in range(rows.leaves)]
        students = rows.log_probs(temperature=self.temperature)
        scale = self.strength * self.ramp(rows) * self.temperature**2
        divergence = F.paired_kl(pairs, targets, students).sum()
        return {"task": task, "ensemble_task": own, "distillation": scale * divergence}
