"""Knowledge distillation from a frozen teacher, word by word.

``kd`` is the interpolation of Kim and Rush, "Sequence-Level Knowledge Distillation" (EMNLP 2016,
https://arxiv.org/abs/1606.07947, the word-level form), with the values of
https://github.com/songmzhang/NMT-KD (Zhang et al., ACL 2023; ``train_ende_vanilla_word_kd.sh`` and
``label_smoothed_cross_entropy_kd.py`` at e01c09c)::

    L = sum_k [ (1 - w) CE(z_k, y)  +  w T^2 KL(p_T || p_k) ],   w = .5, T = 1

``kd_hinton`` is the sum of Hinton et al., "Distilling the Knowledge in a Neural Network" (2015,
https://arxiv.org/abs/1503.02531), as in https://github.com/DefangChen/OKDDip-AAAI2020
(``train_kd.py`` at c6a05de)::

    L = sum_k [ CE(z_k, y)  +  a T^2 KL(p_T || p_k) ],   a = 1, T = 3

``p = softmax(z / T)``; ``CE`` is taken at temperature 1 and carries the label smoothing.

* Direction: the teacher is the target, ``KL(p_T || p_k)``, which is cross-entropy with soft labels
  up to a constant. ``reverse`` gives ``KL(p_k || p_T)``, which prefers the teacher's modes.
* Several teachers, or all leaves of a tree (``PATH:-1``): ``p_T`` is the mean of their
  probabilities (at temperature T), as a fairseq ensemble decodes. A network that learns from an
  earlier one of its own shape is born again (Furlanello et al., ICML 2018).
* Detached: the teacher is frozen and gets no gradient, in either direction.
* Every leaf of a tree imitates the teacher; summed over leaves. With a chain there is one.
* No ramp-up. ``T^2`` keeps the size of the gradient when T changes (1 at the published T of
  ``kd``).
* Deviations: the class ``kd_loss_fn`` of the OKDDip repository multiplies by T instead of T^2; its
  training does not use it, and neither do we. Its KL is an average over the batch, ours a sum over
  rows that the criterion divides once.
"""

from tsa_mt.objectives import Context, LossTerms, Objective, Option, Rows, register_objective
from tsa_mt.objectives import functional as F

REVERSE = "KL(student || teacher) instead of KL(teacher || student)"


class WordLevel(Objective):
    """Task loss and a frozen teacher, weighted; see the module's docstring."""

    default_tree = "chain"
    needs_teacher = True
    temperature = Option.temperature(1.0)
    reverse = Option(False, REVERSE)

    def weights(self) -> tuple[float, float]:
        """Weights of the task loss and of the divergence."""
        raise NotImplementedError

    def task_weight(self, context: Context) -> float:
        """See `Objective.task_weight`."""
        return self.weights()[0]

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; terms are ``task`` and ``distillation``."""
        task = rows.task_losses().sum()
        teacher = rows.teacher.mean_log_probs(self.temperature).detach()
        students = rows.log_probs(temperature=self.temperature)
        if self.reverse:
            divergence = F.kl_divergence(students, teacher)
        else:
            divergence = F.imitation(teacher, students).sum()
        hard, soft = self.weights()
        return {"task": hard * task, "distillation": soft * self.temperature**2 * divergence}


@register_objective("kd")
class KD(WordLevel):
    """Interpolation of the task loss and a frozen teacher; see the module's docstring.

    Detached: the teacher.
    Form: *published*: Kim and Rush 2016, word level.
    """

    weight = Option.share(0.5)

    def weights(self) -> tuple[float, float]:
        """See `WordLevel.weights`."""
        return 1.0 - self.weight, self.weight


@register_objective("kd_hinton")
class HintonKD(WordLevel):
    """Sum of the task loss and a frozen teacher; see the module's docstring.

    Detached: the teacher.
    Form: *by another's code*: Hinton et al. 2015, as in [OKDDip's
        code](https://github.com/DefangChen/OKDDip-AAAI2020).
    """

    strength = Option.strength(1.0)
    temperature = Option.temperature(3.0)

    def weights(self) -> tuple[float, float]:
        """See `WordLevel.weights`."""
        return 1.0, self.strength
