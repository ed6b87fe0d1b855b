"""KDCL: online knowledge distillation via collaborative learning (Guo et al., CVPR 2020).

Paper: https://openaccess.thecvf.com/content_CVPR_2020/html/Guo_Online_Knowledge_Distillation_via_Collaborative_Learning_CVPR_2020_paper.html
Its authors' code is not public. One teacher is made of all leaves' logits, row by row, and teaches
each of them::

    L = sum_k [ CE(z_k, y)  +  s T^2 KL(q(z_t) || q(z_k)) ],    q(z) = softmax(z / T)

``kdcl_naive``: the leaf with the lowest cross-entropy of the row, ``z_t = z_j``, ``j = argmin CE(z_j, y)``.
``kdcl_linear``: the linear combination with the lowest one, ``z_t = sum_j w_j z_j`` with weights that
    are not negative and sum to 1.
``kdcl_min_logit``: of every class the least logit beyond the true one's,
    ``z_t[c] = min_j (z_j[c] - z_j[y])``.

* Strength ``s`` = 1, temperature ``T`` = 2, no ramp-up. The values and the definitions are those of
  three summaries of the paper that agree; the paper itself was not at hand.
* Direction: ``KL(teacher || leaf)``. Detached: the teacher. Summed over leaves.
* Every leaf sees its own augmentation of an image (``own_augmentation``); text has none.
* With one leaf it is the plain task loss.

Ours: the solver of ``kdcl_linear``, 60 multiplicative updates of the weights (exponentiated gradient)
from equal ones, at a rate of 2 over the range of the row's logits. The problem is convex; the
cross-entropy that is found was within .02 of the best. It passes 60 times over all logits. Not here: the paper's general variant, whose
weights come from errors on a held-out set. What a third party's code computes is ``kdcl_mean``.
The paper's peers are whole networks (tree ``peers``).
"""  # noqa: E501

import torch
from torch import Tensor

from tsa_mt.objectives import LossTerms, Objective, Option, Rows, register_objective
from tsa_mt.objectives import functional as F

STEPS, RATE = 60, 2.0


class Collaborative(Objective):
    """One teacher made of all leaves' logits teaches each; `teacher` says how."""

    default_tree = "peers"
    strength = Option.strength(1.0)
    temperature = Option.temperature(2.0)
    own_augmentation = Option.own_augmentation(True)

    def teacher(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The teacher's logits ``(rows, classes)``, made without a gradient.

        Args:
            logits: ``(leaves, rows, classes)``, in float32 or float64.
            targets: ``(rows,)``.
        """
        raise NotImplementedError

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; terms are ``task`` and ``distillation``."""
        if rows.leaves == 1:
            return rows.task_alone(self.gradients)
        logits = rows.logits().detach()
        with torch.no_grad():
            wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
            target = F.log_softmax(self.teacher(wide, rows.targets), self.temperature)
        divergence = F.imitation(target, rows.log_probs(temperature=self.temperature)).sum()
        return {
            "task": rows.task_losses().sum(),
            "distillation": self.strength * self.temperature**2 * divergence,
        }


@register_objective("kdcl_naive")
class KDCLNaive(Collaborative):
    """The leaf that is best at a row teaches it; see the module's docstring.

    Detached: the teacher.
    Form: *published*: Guo et al. 2020; the leaf that is best at a row teaches it.
    """

    def teacher(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `Collaborative.teacher`."""
        best = _true(F.log_softmax(logits), targets).argmax(0)
        return logits[best, torch.arange(len(best), device=best.device)]


@register_objective("kdcl_linear")
class KDCLLinear(Collaborative):
    """The best linear combination of leaves teaches a row; see the module's docstring.

    Detached: the teacher.
    Form: *published*, solver *ours*: Guo et al. 2020; the best linear combination.
    """

    def teacher(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `Collaborative.teacher`."""
        beyond = logits - _true(logits, targets).unsqueeze(-1)  # the true class has 0
        weights = logits.new_full((len(targets), 1, len(logits)), 1 / len(logits))
        tiny = torch.finfo(logits.dtype).tiny
        rate = RATE / (beyond.amax((0, 2)) - beyond.amin((0, 2))).clamp_min(tiny)
        for _ in range(STEPS):
            mixed = F.mixture(beyond, weights)[0]
            slope = torch.einsum("rc,krc->rk", mixed.softmax(-1), beyond)
            steps = (rate.unsqueeze(-1) * slope).unsqueeze(1)
            weights = (weights.clamp_min(tiny).log() - steps).softmax(-1)
        return F.mixture(beyond, weights)[0]


@register_objective("kdcl_min_logit")
class KDCLMinLogit(Collaborative):
    """The least logits beyond the true class' teach; see the module's docstring.

    Detached: the teacher.
    Form: *published*: Guo et al. 2020; the least logits beyond the true class'.
    """

    def teacher(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `Collaborative.teacher`."""
        return (logits - _true(logits, targets).unsqueeze(-1)).amin(0)


def _true(values: Tensor, targets: Tensor) -> Tensor:
    """What the true class has, ``(leaves, rows)``."""
    index = targets.expand(len(values), -1).unsqueeze(-1)
    return values.gather(-1, index).squeeze(-1)
