"""The mean logit of all leaves teaches each: what a third party's code of KDCL computes.

Code: https://github.com/shaoeric/Online-Knowledge-Distillation-via-Collaborative-Learning
(``train.py`` at 1ba5461; not by the authors of KDCL, Guo et al., CVPR 2020). The paper makes its
teacher in other ways, which are ``kdcl_naive``, ``kdcl_linear`` and ``kdcl_min_logit``::

    L = sum_k [ (1 - a) CE(z_k, y)  +  a T^2 KL(q(m) || q(z_k)) ],
    q(z) = softmax(z / T),    m = 1/K sum_j z_j

* Weight ``a`` = .5, temperature ``T`` = 4, no ramp-up.
* Direction: ``KL(mean || leaf)``. Detached: the mean.
* Summed over leaves.
* Every leaf sees its own augmentation of an image (``own_augmentation``); text has none.
* With one leaf it is the plain task loss, of weight 1.

Earlier versions called it ``kdcl``, which still works and says so. The peers are whole networks
(tree ``peers``).
"""

import torch

from tsa_mt.objectives import Context, LossTerms, Objective, Option, Rows, register_objective
from tsa_mt.objectives import functional as F


@register_objective("kdcl_mean")
class KDCLMean(Objective):
    """The mean of all leaves teaches each of them; see the module's docstring.

    Detached: the mean (``--kd-detach``).
    Form: *by another's code*: KDCL as in a [third party's
        code](https://github.com/shaoeric/Online-Knowledge-Distillation-via-Collaborative-Learning).
    """

    default_tree = "peers"
    weight = Option.share(0.5)
    temperature = Option.temperature(4.0)
    detach = Option.detach(True)
    own_augmentation = Option.own_augmentation(True)

    def task_weight(self, context: Context) -> float:
        """See `Objective.task_weight`."""
        return 1.0 - self.weight if self.leaves > 1 else 1.0

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; terms are ``task`` and ``distillation``."""
        if rows.leaves == 1:
            return rows.task_alone(self.gradients)
        task = rows.task_losses().sum()
        logits = rows.logits().detach() if self.detach else rows.logits()
        wide = torch.promote_types(logits.dtype, torch.float32)
        mean = F.log_softmax(logits.mean(0, keepdim=True, dtype=wide), self.temperature)
        pairs = [(0, 1 + leaf) for leaf in range(rows.leaves)]
        divergence = F.paired_kl(pairs, mean, rows.log_probs(temperature=self.temperature)).sum()
        return {
            "task": (1.0 - self.weight) * task,
            "distillation": self.weight * self.temperature**2 * divergence,
        }
