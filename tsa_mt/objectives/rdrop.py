"""R-Drop: regularised dropout (Liang et al., NeurIPS 2021).

Paper: https://arxiv.org/abs/2106.14448. Code: https://github.com/dropreg/R-Drop
(``fairseq_src/examples/translation_rdrop/translation_rdrop_src/loss/reg_label_smooth_cross_entropy.py``
at 9dcc830).

The same batch goes through the network twice, with different dropout; both passes learn from the
label and agree with each other::

    L = CE(z1, y) + CE(z2, y)  +  a / 2 [ KL(p1 || p2) + KL(p2 || p1) ],    p = softmax(z)

* Weight ``a`` = 5 (translation), temperature 1, no ramp-up. Detached: nothing.
* Summed over the two passes while the sample size stays that of one, as in the code: the task loss
  weighs twice what the same network has without R-Drop.
* Every objective takes ``rdrop_weight`` as an option: its terms are then those of both passes,
  summed, and every leaf agrees with itself. This one is the plain task loss with that option set.
* One forward over the batch concatenated with itself; validation has no dropout and runs one pass.
* Standalone call: the logits of pass 1, then of pass 2.
"""  # noqa: E501

from tsa_mt.objectives import (
    LEAVES,
    Consistency,
    LossTerms,
    Option,
    Rows,
    register_consistency,
    register_objective,
)
from tsa_mt.objectives import functional as F
from tsa_mt.objectives.config import RDROP
from tsa_mt.objectives.independent import Independent
from tsa_mt.objectives.mutual import Mutual, mutual_of


@register_objective("rdrop")
class RDrop(Independent):
    """Task loss on two dropout passes that agree; see the module's docstring.

    Detached: nothing.
    Form: *published*: Liang et al. 2021, [code](https://github.com/dropreg/R-Drop).
    """

    rdrop_weight = Option.weight(5.0, RDROP)


@register_consistency("rdrop_weight")
class DropoutAgreement(Consistency):
    """The terms of both passes, and ``rdrop``: every leaf agrees with itself."""

    @property
    def gradients(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.gradients`."""
        return {**super().gradients, "rdrop": LEAVES}

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`."""
        terms = super().terms
        first, second = (terms(self.passed(rows, number)) for number in range(self.passes))
        both = self.by_pass(rows.log_probs()).flatten(1, 2)  # passes x leaves*rows x classes
        return {
            **{name: first[name] + second[name] for name in first},
            "rdrop": self.config.rdrop_weight * F.pairwise_kl(both) / 2,
        }

    def mutual(self) -> Mutual | None:
        """In closed form, for one leaf: its two passes are two leaves."""
        inner = mutual_of(self, type(self).__bases__[1])  # of the objective within
        if inner is None or inner.divergence or self.leaves > 1:
            return None
        return Mutual(inner.task, self.config.rdrop_weight / 2)
