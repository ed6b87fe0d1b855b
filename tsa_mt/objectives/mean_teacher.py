"""Mean teacher: a moving average of the network teaches it (Tarvainen and Valpola, NeurIPS 2017).

Paper: https://arxiv.org/abs/1703.01780, which has no code for translation. Every leaf imitates its
own average::

    L = sum_k CE(z_k, y)  +  s w(e) T^2 sum_k KL(q(z'_k) || q(z_k)),    q(z) = softmax(z / T)

* ``z'_k`` is what leaf k of the averaged network computes, without dropout and without a gradient.
  The average is that of PCL: ``min(1 - 1/n, decay)`` after update n, over everything.
* Published: decay .999. Ours: the KL in place of the paper's squared distance of probabilities (it
  reports both), strength ``s`` = 1, temperature ``T`` = 1, no ramp-up by default
  (``--kd-rampup-updates`` sets one; the paper ramps up over 40,000 of 150,000 updates).
* With ``leader_teaches`` the averaged leader teaches every leaf.
* Direction: ``KL(average || leaf)``. Detached: the average. Summed over leaves.
* One leaf is enough (tree ``chain``).
* The raw leader ships. ``--branch averaged`` takes the average.
* Standalone call: pass the averaged leaves' logits, leaf by leaf, as ``teacher_logits``.
"""

from tsa_mt.objectives import LossTerms, Option, RampedObjective, Rows, register_objective
from tsa_mt.objectives import functional as F


@register_objective("mean_teacher")
class MeanTeacher(RampedObjective):
    """Every leaf learns from its moving average; see the module's docstring.

    Detached: the average.
    Form: *ours* after Tarvainen and Valpola 2017, whose decay it has.
    """

    default_tree = "chain"
    strength = Option.strength(1.0)
    temperature = Option.temperature(1.0)
    decay = Option.average_decay(0.999)
    leader_teaches = Option(False, "the averaged leader teaches every leaf, not each its own")

    @property
    def average_decay(self) -> float | None:
        """See `Objective.average_decay`."""
        return self.decay

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; terms are ``task`` and ``distillation``."""
        teachers = rows.teacher.log_probs(temperature=self.temperature)
        students = rows.log_probs(temperature=self.temperature)
        pairs = [
            (0 if self.leader_teaches else leaf, len(teachers) + leaf)
            for leaf in range(rows.leaves)
        ]
        divergence = F.paired_kl(pairs, teachers.detach(), students).sum()
        scale = self.strength * self.ramp(rows) * self.temperature**2
        return {"task": rows.task_losses().sum(), "distillation": scale * divergence}
