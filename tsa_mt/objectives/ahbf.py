"""AHBF-OKD: adaptive hierarchy-branch fusion for online distillation (Gong et al., AAAI 2023).

Paper: https://ojs.aaai.org/index.php/AAAI/article/view/25937. Code:
https://github.com/linruigong965/AHBF (``AHBF-pytorch/train_ahbf.py`` and
``models/model_backbone/resnet_ahbf.py`` at 8d41235).

Leaves 0 .. K-1 of growing depth (a ladder; leaf 0 is the target). Level by level a fusion module
merges what is below with the next leaf into an auxiliary teacher, for features F and logits z::

    F'_0 = F_0,  z'_0 = z_0;    F'_i = norm(W [F'_{i-1}; F_i]),    z'_i = s_i1 z'_{i-1} + s_i2 z_i,
    s_i = softmax(ReLU(V F'_i + b))

    L = sum_{i=0}^{K-1} CE(z_i, y) + sum_{i=1}^{K-1} CE(z'_i, y)
        + s w(e) T^2 sum_{i=1}^{K-1} { l1 KL(q(z'_i) || q(z'_{i-1})) + l2 KL(q(z'_i) || q(z_i))
                                       + l3 KL(q(z_i) || q(z'_{i-1})) },    q(z) = softmax(z / T)

* Temperature ``T`` = 3; strength ``s`` = .75 (1.5 and a hard-coded half), ramp-up
  ``w(e) = exp(-5 (1 - e)^2)`` over 240 of 300 epochs; weights l1 (``lambda_teacher``) = 2,
  l2 (``lambda_own``) = 2, l3 (``lambda_branch``) = 4, the README's command.
* Direction: ``KL(target || student)``. Detached: nothing. Summed over leaves and levels.
* The order of the leaves matters. Any tree will do; the preset is ``ladder``.

Other published values: the repository's first commit (ecb8b2c) has s = 1 and a ramp-up over all 300
epochs (`FIRST_COMMIT`); the paper has the first and third divergence only, with l1 = 4 and l3 = 2
(`PAPER`), where code and README seem to have swapped the names of the lambdas.

Deviations. Images merge feature maps by a 1x1 convolution with BatchNorm and normalise the gate's
two scores over the batch; rows of text take a linear map with LayerNorm and leave the two scores
alone, which a norm over two numbers would saturate. The code adds 1e-7 to the target's
probabilities, we do not.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tsa_mt.branches import BranchOutputs
from tsa_mt.objectives import LEAVES, LossTerms, Option, RampedObjective, Rows, register_objective
from tsa_mt.objectives import functional as F

FIRST_COMMIT = {"strength": 1.0, "rampup": 1.0}
"""Options of the repository's first commit, where they differ from HEAD."""

PAPER = {"lambda_teacher": 4.0, "lambda_own": 0.0, "lambda_branch": 2.0}
"""Options of the paper's formula, where they differ from HEAD."""


@register_objective("ahbf")
class AHBF(RampedObjective):
    """Auxiliary teachers fused level by level; see the module's docstring.

    Detached: nothing.
    Form: *by its code*: Gong et al. 2023, [code](https://github.com/linruigong965/AHBF).
    """

    default_tree = "ladder"
    fuses_features = True
    fuses_widths = True
    ordered = True
    strength = Option.strength(0.75)
    temperature = Option.temperature(3.0)
    rampup = Option.rampup(240, of=300)
    lambda_teacher = Option.weight(2.0, "weight of an auxiliary teacher teaching the one below it")
    lambda_own = Option.weight(2.0, "weight of an auxiliary teacher teaching its own branch")
    lambda_branch = Option.weight(4.0, "weight of a branch teaching the auxiliary teacher below it")

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        dims = self.leaf_dims
        self.merges = nn.ModuleList(map(self.fusion.merge, dims, dims[1:]))
        self.gates = nn.ModuleList(self.fusion.gate(dim, 2) for dim in dims[1:])

    @property
    def gradients(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.gradients`."""
        fused = dict.fromkeys(("teacher_task", "teacher", "own", "branch"), (*LEAVES, "gates"))
        return {"task": LEAVES, **fused}

    def fuse(self, outputs: BranchOutputs) -> BranchOutputs:
        """Adds the gate ``teachers``: ``(..., leaves - 1, leaves)``, rows sum to 1.

        Every auxiliary teacher is given as a mixture of the leaves' own logits.
        """
        if self.leaves == 1:
            return outputs
        features = outputs.maps or outputs.features
        fused = features[0]
        mixtures: list[Tensor] = []
        for level, (merge, gate) in enumerate(zip(self.merges, self.gates), start=1):
            fused = merge(fused, features[level])
            shares = gate(fused)  # ... x 2
            identity = torch.eye(self.leaves, dtype=shares.dtype, device=shares.device)
            below = mixtures[-1] if mixtures else identity[0]
            mixtures.append(shares[..., :1] * below + shares[..., 1:] * identity[level])
        return outputs.with_gate("teachers", torch.stack(mixtures, dim=-2))

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; the auxiliary teachers' task loss and three divergences follow."""
        if rows.leaves == 1:
            return rows.task_alone(self.gradients)
        task = rows.task_losses().sum()
        teachers = F.mixture(rows.logits(), rows.gate("teachers"))
        own = rows.task_loss_of(teachers)
        softened = F.log_softmax(teachers, self.temperature)
        students = rows.log_probs(temperature=self.temperature)
        divergences = F.paired_kl(_pairs(rows.leaves), students, softened)
        scale = self.strength * self.ramp(rows) * self.temperature**2
        below, branch, across = scale * divergences.view(3, rows.leaves - 1).sum(1)
        return {
            "task": task,
            "teacher_task": own,
            "teacher": self.lambda_teacher * below,
            "own": self.lambda_own * branch,
            "branch": self.lambda_branch * across,
        }


def _pairs(leaves: int) -> list[tuple[int, int]]:
    """Who is imitated by whom, level by level for each of the three divergences.

    Distributions are numbered: leaves 0 .. K-1, then teachers 1 .. K-1; the leader is teacher 0.
    """
    teacher = [0, *range(leaves, 2 * leaves - 1)]
    levels = range(1, leaves)
    return [
        *((teacher[i], teacher[i - 1]) for i in levels),
        *((teacher[i], i) for i in levels),
        *((i, teacher[i - 1]) for i in levels),
    ]
