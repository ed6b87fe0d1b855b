"""DML: deep mutual learning (Zhang et al., CVPR 2018), pair by pair and by the mean of the others.

Paper: https://arxiv.org/abs/1706.00384. Code of the second form:
https://github.com/DefangChen/OKDDip-AAAI2020 (``train_DML.py`` at c6a05de).

``dml``, the original: every leaf k imitates every other leaf j as it is, without temperature::

    L = sum_k [ CE(z_k, y)  +  s / (K - 1)  sum_{j != k} KL(p_j || p_k) ],    p_k = softmax(z_k / T)

* Strength ``s`` = 1, temperature ``T`` = 1 (at another one the KL is multiplied by ``T^2``).
* Detached: the target ``p_j``. The paper updates one network at a time and takes the others'
  predictions as given; all at once with constant targets has the same gradients.

``dml_mean``, as the OKDDip code's comparison has it: the target is the mean logit of the others::

    L = sum_k [ CE(z_k, y)  +  s T^2 KL(q(m_k) || q(z_k)) ],
    q(z) = softmax(z / T),    m_k = 1/(K-1) sum_{j != k} z_j

* Strength ``s`` = 1, temperature ``T`` = 3. Detached: nothing.

Both: direction ``KL(target || student)``, no ramp-up, summed over leaves (the mean over targets is
inside). The paper's peers are whole networks: tree ``peers`` (the default), ``--peer-encoders``;
every other tree works. Deviation: no 1e-7 in the target of ``dml_mean``.
"""

from torch import Tensor

from tsa_mt.objectives import LossTerms, Objective, Option, Rows, register_objective
from tsa_mt.objectives import functional as F
from tsa_mt.objectives.mutual import Mutual


@register_objective("dml")
class DML(Objective):
    """Every leaf imitates every other one; see the module's docstring.

    Detached: the imitated leaf.
    Form: *published*: Zhang et al. 2018, the paper's algorithm.
    """

    default_tree = "peers"
    strength = Option.strength(1.0)
    temperature = Option.temperature(1.0)
    detach = Option.detach(True)

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; terms are ``task`` and ``distillation``."""
        if rows.leaves == 1:
            return rows.task_alone(self.gradients)
        scale = self.strength * self.temperature**2
        task = rows.task_losses().sum()
        return {"task": task, "distillation": scale * self.divergence(rows)}

    def divergence(self, rows: Rows) -> Tensor:
        """KL of the leaves to what they imitate, summed over leaves and rows."""
        log_probs = rows.log_probs(temperature=self.temperature)
        return F.pairwise_kl(log_probs, self.detach) / (rows.leaves - 1)

    def mutual(self) -> Mutual:
        """The same in closed form; see `tsa_mt.objectives.mutual`."""
        if self.leaves == 1:
            return Mutual()
        scale = self.strength * self.temperature**2 / (self.leaves - 1)
        return Mutual(1.0, scale, self.temperature, self.detach)


@register_objective("dml_mean")
class DMLMean(DML):
    """Every leaf imitates the mean logit of the others; see the module's docstring.

    Detached: nothing (``--kd-detach``).
    Form: *by another's code*: DML as in [OKDDip's
        code](https://github.com/DefangChen/OKDDip-AAAI2020).
    """

    temperature = Option.temperature(3.0)
    detach = Option.detach(False)

    def divergence(self, rows: Rows) -> Tensor:
        """See `DML.divergence`."""
        log_probs = rows.log_probs(temperature=self.temperature)
        return F.kl_to_mean_of_others(rows.logits(), log_probs, self.temperature, self.detach)
