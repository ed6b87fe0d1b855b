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

from tsa_mt.objectives import LossTerms, Option, RampedObjective, Rows, register_objective
from tsa_mt.objectives import functional as F


@register_objective("cl_ilr")
class CLILR(RampedObjective):
    """Collaborative learning with rescaled gradients; see the module's docstring.

    Detached: nothing (``--kd-detach``); the gradient of what branches share is divided by their
        number.
    Form: *by another's code*: Song and Chai 2018, [OKDDip's
        code](https://github.com/DefangChen/OKDDip-AAAI2020).
    """

    default_tree = "fork"
    rescales_shared = True
    strength = Option.strength(1.0)
    temperature = Option.temperature(3.0)
    rampup = Option.rampup(80, of=300)
    detach = Option.detach(False)

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; terms are ``task`` and ``distillation``."""
        if rows.leaves == 1:
            return rows.task_alone(self.gradients)
        task = rows.task_losses().sum()
        log_probs = rows.log_probs(temperature=self.temperature)
        divergence = F.kl_to_mean_of_others(rows.logits(), log_probs, self.temperature, self.detach)
        scale = self.strength * self.ramp(rows) * self.temperature**2
        return {"task": task, "distillation": scale * divergence}
