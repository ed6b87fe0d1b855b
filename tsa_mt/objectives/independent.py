"""Independent branches: the task loss on every leaf and nothing else.

With a chain it is ordinary training (fairseq's ``label_smoothed_cross_entropy``); with a tree it is
the multi-branch control that every distillation method has to beat (``--ind`` in the code of Chen
et al., AAAI 2020, https://github.com/DefangChen/OKDDip-AAAI2020 at c6a05de).

Loss: ``sum_k CE(z_k, y)``. Summed over leaves. Nothing is detached: there is no target.
"""

from tsa_mt.objectives import LEAVES, LossTerms, Objective, Rows, register_objective
from tsa_mt.objectives.mutual import Mutual


@register_objective("independent")
class Independent(Objective):
    """Task loss on every leaf; see the module's docstring.

    Detached: nothing to detach.
    Form: *by another's code*: multi-branch control of Chen et al. 2020.
    """

    default_tree = "chain"

    @property
    def gradients(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.gradients`."""
        return {"task": LEAVES}

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; the only term is ``task``."""
        return {"task": rows.task_losses().sum()}

    def mutual(self) -> Mutual:
        """The same in closed form; see `tsa_mt.objectives.mutual`."""
        return Mutual()
