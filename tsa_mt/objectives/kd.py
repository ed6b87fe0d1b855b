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
* ``rank_top`` k > 0 adds the ranking term of TIE-KD (Zhang et al., ACL 2023,
  https://arxiv.org/abs/2305.08096, ``label_smoothed_cross_entropy_advanced_kd.py`` at 53c2244,
  where k = 5 beside w = .5 and T = 1), with the weight of the divergence. With the teacher's and
  the student's k best classes A and B and probabilities t and p, and the teacher's best class a::

      sum_{i in A} max(0, p_i - p_a)  +  sum_{i in A, j in B: t_i > t_j} max(0, p_j - p_i)

  It penalises a student that ranks another class above the teacher's best, or a class of its own
  above one that the teacher prefers. Probabilities are those at temperature 1. Not here: TIE-KD's
  second half, three rounds of distillation on the student's own predictions.
* Every leaf of a tree imitates the teacher; summed over leaves. With a chain there is one.
* No ramp-up. ``T^2`` keeps the size of the gradient when T changes (1 at the published T of
  ``kd``).
* Deviations: the class ``kd_loss_fn`` of the OKDDip repository multiplies by T instead of T^2; its
  training does not use it, and neither do we. Its KL is an average over the batch, ours a sum over
  rows that the criterion divides once.
"""

from torch import Tensor

from tsa_mt.objectives import (
    LEAVES,
    Context,
    LossTerms,
    Objective,
    Option,
    Rows,
    register_objective,
)
from tsa_mt.objectives import functional as F
from tsa_mt.objectives.config import NOT_NEGATIVE

REVERSE = "KL(student || teacher) instead of KL(teacher || student)"


class WordLevel(Objective):
    """Task loss and a frozen teacher, weighted; see the module's docstring."""

    default_tree = "chain"
    needs_teacher = True
    temperature = Option.temperature(1.0)
    reverse = Option(False, REVERSE)
    rank_top = Option(
        0, "best classes whose order TIE-KD's ranking term keeps; 0 = off", NOT_NEGATIVE
    )

    @property
    def gradients(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.gradients`."""
        return {**super().gradients, **({"rank": LEAVES} if self.rank_top else {})}

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
        terms = {"task": hard * task, "distillation": soft * self.temperature**2 * divergence}
        if self.rank_top:
            best = rows.teacher.mean_log_probs().detach()
            terms["rank"] = soft * misranked(rows.log_probs(), best, self.rank_top).sum()
        return terms


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


def misranked(log_probs: Tensor, log_teacher: Tensor, top: int) -> Tensor:
    """How much probability students give to classes above those that the teacher prefers.

    Args:
        log_probs: ``(leaves, rows, classes)`` of the students.
        log_teacher: ``(rows, classes)``.
        top: How many of the best classes count.

    Returns:
        ``(leaves, rows)``; see the module's docstring.
    """
    top = min(top, log_probs.shape[-1])
    teacher, probs = log_teacher.exp().expand(log_probs.shape), log_probs.exp()
    liked, preferred = teacher.topk(top)
    given, own = probs.topk(top)
    ours = probs.gather(-1, preferred)  # of the teacher's classes, its best first
    first = (ours - ours[..., :1]).clamp_min(0).sum(-1)
    prefers = liked.unsqueeze(-1) > teacher.gather(-1, own).unsqueeze(-2)
    above = (given.unsqueeze(-2) - ours.unsqueeze(-1)).clamp_min(0)
    return first + (above * prefers).sum((-1, -2))
