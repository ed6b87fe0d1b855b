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

from dataclasses import dataclass, replace
from typing import Dict, Tuple

import torch
from torch import Tensor, nn

from tsa_mt.branches import BranchOutputs, Predictions, log_softmax
from tsa_mt.objectives.base import LEAVES, Context, LossTerms, Objective, register_objective
from tsa_mt.objectives.config import (
    NOT_NEGATIVE,
    RampedConfig,
    option,
    rampup_option,
    strength_option,
    temperature_option,
)
from tsa_mt.objectives.functional import cross_entropy, mixture, paired_kl


@dataclass(frozen=True)
class AHBFConfig(RampedConfig):
    """Options of `AHBF`."""

    strength: float = strength_option(0.75)
    temperature: float = temperature_option(3.0)
    rampup: float = rampup_option(240, 300)
    lambda_teacher: float = option(
        2.0, "weight of an auxiliary teacher teaching the one below it", NOT_NEGATIVE
    )
    lambda_own: float = option(
        2.0, "weight of an auxiliary teacher teaching its own branch", NOT_NEGATIVE
    )
    lambda_branch: float = option(
        4.0, "weight of a branch teaching the auxiliary teacher below it", NOT_NEGATIVE
    )


FIRST_COMMIT = {"strength": 1.0, "rampup": 1.0}
"""Options of the repository's first commit, where they differ from HEAD."""

PAPER = {"lambda_teacher": 4.0, "lambda_own": 0.0, "lambda_branch": 2.0}
"""Options of the paper's formula, where they differ from HEAD."""


@register_objective("ahbf")
class AHBF(Objective):
    """Auxiliary teachers fused level by level; see the module's docstring."""

    Config = AHBFConfig
    default_tree = "ladder"
    fuses_features = True
    fuses_widths = True
    ordered = True

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        dims = self.leaf_dims
        self.merges = nn.ModuleList(map(self.fusion.merge, dims, dims[1:]))
        self.gates = nn.ModuleList(self.fusion.gate(dim, 2) for dim in dims[1:])

    @property
    def gradients(self) -> Dict[str, Tuple[str, ...]]:
        """See `Objective.gradients`."""
        fused = (*LEAVES, "gates")
        return {
            "task": LEAVES,
            "teacher_task": fused,
            "teacher": fused,
            "own": fused,
            "branch": fused,
        }

    def fuse(self, outputs: BranchOutputs) -> BranchOutputs:
        """Adds the gate ``teachers``: ``(..., leaves - 1, leaves)``, rows sum to 1.

        Every auxiliary teacher is given as a mixture of the leaves' own logits.
        """
        if self.leaves == 1:
            return outputs
        features = outputs.maps or outputs.features
        fused, rows = features[0], []
        for level, (merge, gate) in enumerate(zip(self.merges, self.gates), start=1):
            fused = merge(fused, features[level])
            shares = gate(fused)  # ... x 2
            identity = torch.eye(self.leaves, dtype=shares.dtype, device=shares.device)
            below = rows[-1] if rows else identity[0]
            rows.append(shares[..., :1] * below + shares[..., 1:] * identity[level])
        return replace(outputs, gates={"teachers": torch.stack(rows, dim=-2)})

    def terms(
        self, predictions: Predictions, target: Tensor, gates: Dict[str, Tensor], context: Context
    ) -> LossTerms:
        """See `Objective.terms`; the auxiliary teachers' task loss and three divergences follow."""
        task = self.task_losses(predictions, target, context).sum()
        if self.leaves == 1:
            return self.task_alone(task)
        config, count = self.config, self.leaves
        teachers = mixture(predictions.logits, gates["teachers"])
        own = cross_entropy(log_softmax(teachers), target, context.label_smoothing).sum()
        # distributions: leaves 0 .. K-1, then teachers 1 .. K-1; the leader is teacher 0
        teacher = [0, *range(count, 2 * count - 1)]
        levels = range(1, count)
        pairs = [(teacher[i], teacher[i - 1]) for i in levels]
        pairs += [(teacher[i], i) for i in levels]
        pairs += [(i, teacher[i - 1]) for i in levels]
        softened = log_softmax(teachers, config.temperature)
        divergences = paired_kl(pairs, predictions.log_probs(config.temperature), softened)
        scale = config.strength * self.ramp(context) * config.temperature**2
        below, branch, across = scale * divergences.view(3, count - 1).sum(1)
        return {
            "task": task,
            "teacher_task": own,
            "teacher": config.lambda_teacher * below,
            "own": config.lambda_own * branch,
            "branch": config.lambda_branch * across,
        }
