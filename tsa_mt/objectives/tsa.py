"""TSA: tree-structured auxiliary online knowledge distillation (Lin et al., IJCNN 2022).

Paper: https://arxiv.org/abs/2208.10068. Code: https://github.com/Linwenye/Tree-Supervised
(``train_tree.py`` at ba35668).

Every leaf k of the tree learns from the label and from every other leaf j, pair by pair::

    L = sum_k [ (1 - a) CE(z_k, y)  +  a T^2 / (K - 1)  sum_{j != k} KL(p_j || p_k) ],
    p_k = softmax(z_k / T)

* Weight ``a`` = .3, temperature ``T`` = 3 (the code's defaults), no ramp-up.
* Direction: the code has ``KL(p_j || p_k)`` (leaf k imitates leaf j), the paper writes the reverse.
  Summed over all ordered pairs both are the same number with the same gradient, as long as
  nothing is detached.
* Detached: nothing by default, as in the code. ``detach`` stops the gradient into the target
  (``train_tree_detach.py``); it roughly halves the distillation gradient, so that the same
  ``weight`` does not mean the same strength.
* Summed over leaves (a shared trunk sees the sum of all leaves' gradients).
* The paper's tree is the balanced 1-2-4 one (preset ``tsa``); all leaves are exchangeable and
  leaf 0 is kept.
"""

from tsa_mt.objectives import Context, LossTerms, Objective, Option, Rows, register_objective
from tsa_mt.objectives import functional as F
from tsa_mt.objectives.mutual import Mutual


@register_objective("tsa")
class TSA(Objective):
    """Pairwise mutual distillation between all leaves; see the module's docstring.

    Detached: nothing (``--kd-detach``).
    Form: *published*: Lin et al. 2022, [code](https://github.com/Linwenye/Tree-Supervised).
    """

    default_tree = "tsa"
    weight = Option.share(0.3)
    temperature = Option.temperature(3.0)
    detach = Option.detach(False)

    def task_weight(self, context: Context) -> float:
        """See `Objective.task_weight`."""
        return 1.0 - self.weight if self.leaves > 1 else 1.0

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; terms are ``task`` and ``distillation``."""
        if rows.leaves == 1:
            return rows.task_alone(self.gradients)
        task = rows.task_losses().sum()
        scale = self.weight * self.temperature**2 / (rows.leaves - 1)
        divergence = F.pairwise_kl(rows.logits(), self.detach, self.temperature)
        return {"task": (1.0 - self.weight) * task, "distillation": scale * divergence}

    def mutual(self) -> Mutual:
        """The same in closed form; see `tsa_mt.objectives.mutual`."""
        if self.leaves == 1:
            return Mutual()
        scale = self.weight * self.temperature**2 / (self.leaves - 1)
        return Mutual(1.0 - self.weight, scale, self.temperature, self.detach)
