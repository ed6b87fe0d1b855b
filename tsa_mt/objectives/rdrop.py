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

from dataclasses import dataclass

from tsa_mt.objectives.base import register_objective
from tsa_mt.objectives.config import NOT_NEGATIVE, RDROP, ObjectiveConfig, option
from tsa_mt.objectives.independent import Independent


@dataclass(frozen=True)
class RDropConfig(ObjectiveConfig):
    """Options of `RDrop`."""

    rdrop_weight: float = option(5.0, RDROP, NOT_NEGATIVE)


@register_objective("rdrop")
class RDrop(Independent):
    """Task loss on two dropout passes that agree; see the module's docstring."""

    Config = RDropConfig
