"""Distillation from the ensemble of all leaves.

Ours, of known parts: the target is that of knowledge distillation from an ensemble (Hinton et al.
2015, https://arxiv.org/abs/1503.02531), the ensemble is the one that fairseq decodes with, the mean
of probabilities, and the leaves are its members, as in ONE (Lan et al. 2018) without the gate::

    L = sum_k CE(z_k, y)  +  s w(e) T^2 sum_k KL(p || q(z_k)),
    p = 1/K sum_j q(z_j),    q(z) = softmax(z / T)

* Strength ``s`` = 1, temperature ``T`` = 1, no ramp-up (``rampup`` and ``rampup_updates`` set one).
* Direction: ``KL(ensemble || leaf)``. Detached: the ensemble.
* With ``leader_alone`` the leader is the only one that learns from it, so that the others stay as
  different as the labels leave them; else summed over leaves.
* Leaves that imitate each other early become alike, and their mean then knows no more than each.
  ``--kd-start UPDATE`` lets them learn from the labels alone until then.
* With one leaf it is the plain task loss.
"""

from tsa_mt.objectives import LEAVES, LossTerms, Option, RampedObjective, Rows, register_objective
from tsa_mt.objectives import functional as F


@register_objective("ensemble")
class Ensemble(RampedObjective):
    """The mean of all leaves' probabilities teaches each, or the leader alone.

    Detached: the ensemble.
    Form: *ours*, of known parts: the mean of all leaves' probabilities teaches.
    """

    strength = Option.strength(1.0)
    temperature = Option.temperature(1.0)
    leader_alone = Option(False, "let the leader alone learn from the ensemble, not every leaf")

    @property
    def gradients(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.gradients`."""
        return {"task": LEAVES, "distillation": ("leader",) if self.leader_alone else LEAVES}

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; terms are ``task`` and ``distillation``."""
        if rows.leaves == 1:
            return rows.task_alone(self.gradients)
        students = rows.log_probs(temperature=self.temperature)
        target = F.mean_probability(students.detach())
        taught = students[:1] if self.leader_alone else students
        scale = self.strength * self.ramp(rows) * self.temperature**2
        return {
            "task": rows.task_losses().sum(),
            "distillation": scale * F.imitation(target, taught).sum(),
        }
