"""PCL: peer collaborative learning (Wu and Gong, AAAI 2021).

Paper: https://arxiv.org/abs/2006.04147. Code, not the authors':
https://github.com/shaoeric/Peer-Collaborative-Learning-for-Online-Knowledge-Distillation
(``src/losses/loss_wrapper.py``, ``src/controller.py``, ``src/utils/ema.py`` at 6afb473).

Two kinds of teachers. One classifies the concatenated features of all leaves; the others are the
leaves of a moving average of the whole network, each of which teaches the leaves but its own::

    L = sum_k CE(z_k, y)  +  CE(z_e, y)
        + s w(e) T^2 sum_k [ KL(q(z_e) || q(z_k))  +  1/(K-1) sum_{j != k} KL(q(z'_j) || q(z_k)) ],

    z_e = W [h_1; ...; h_K] + b,    q(z) = softmax(z / T),    z'_j of the averaged leaf j

* Strength ``s`` = 1, temperature ``T`` = 3; ramp-up ``w(e) = exp(-5 (1 - e)^2)`` over the first 80
  of 300 epochs.
* Direction: ``KL(teacher || leaf)``. Detached: both kinds of teachers. The feature teacher's task
  loss reaches the leaves through their features.
* Summed over leaves; averaged over the K-1 averaged peers.
* Every leaf, and its average, sees its own augmentation of an image (``own_augmentation``), which
  therefore passes through the shared trunk once per leaf; text has no augmentations.
* Moving average: decay ``min(1 - 1 / (n + 1), .999)`` after update n, over everything but the
  feature teacher.

Deviations. The code divides by 1 instead of 80 in its ramp-up, so that distillation is nearly off
for 80 epochs; the ramp-up here is the intended one. The code runs the averaged network in training
mode with running statistics of its own; here it runs in evaluation mode, without dropout, and
averages the statistics.

Standalone call: pass the averaged peers' logits, leaf by leaf, as ``teacher_logits``.
"""

from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from tsa_mt.branches import BranchOutputs, Predictions, Projection
from tsa_mt.objectives.base import LEAVES, Context, LossTerms, Objective, register_objective
from tsa_mt.objectives.config import (
    SHARE,
    RampedConfig,
    option,
    own_augmentation_option,
    rampup_option,
    strength_option,
    temperature_option,
)
from tsa_mt.objectives.functional import paired_kl


@dataclass(frozen=True)
class PCLConfig(RampedConfig):
    """Options of `PCL`."""

    strength: float = strength_option(1.0)
    temperature: float = temperature_option(3.0)
    rampup: float = rampup_option(80, 300)
    decay: float = option(
        0.999, "decay per update of the averaged network whose leaves teach", SHARE
    )
    own_augmentation: bool = own_augmentation_option(True)


@register_objective("pcl")
class PCL(Objective):
    """A teacher on all features and an averaged peer group; see the module's docstring."""

    Config = PCLConfig
    default_tree = "fork"
    ordered = True
    fuses_features = True

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if self.leaves > 1:
            self.classifier = nn.Linear(self.leaves * self.feature_dim, self.num_classes)

    @property
    def average_decay(self) -> Optional[float]:
        """See `Objective.average_decay`."""
        return self.config.decay if self.leaves > 1 else None

    @property
    def projections(self) -> List[Projection]:
        """The feature teacher's; see `Objective.projections`."""
        if self.leaves == 1:
            return []
        return [Projection(self.classifier.weight, self.classifier.bias)]

    @property
    def gradients(self) -> Dict[str, Tuple[str, ...]]:
        """See `Objective.gradients`."""
        return {
            "task": LEAVES,
            "ensemble_task": ("fused",),
            "ensemble": LEAVES,
            "averaged_peers": LEAVES,
        }

    def fuse(self, outputs: BranchOutputs) -> BranchOutputs:
        """Appends the concatenated features ``(..., leaves * dim)`` of the feature teacher."""
        if self.leaves == 1:
            return outputs
        together = torch.cat(outputs.features, dim=-1)
        return replace(outputs, features=[*outputs.features, together])

    def terms(
        self, predictions: Predictions, target: Tensor, gates: Dict[str, Tensor], context: Context
    ) -> LossTerms:
        """See `Objective.terms`; two task losses and two kinds of teachers."""
        task = self.task_losses(predictions, target, context)
        count, temperature = self.leaves, self.config.temperature
        if count == 1:
            return self.task_alone(task.sum())
        students = predictions.log_probs(temperature)
        averaged = context.teacher.log_probs(temperature)
        # distributions: leaves 0 .. K-1, their averages, the feature teacher
        pairs = [(2 * count, leaf) for leaf in range(count)]
        pairs += [(count + j, k) for k in range(count) for j in range(count) if j != k]
        divergences = paired_kl(pairs, students[:count], averaged, students[count:].detach())
        scale = self.config.strength * self.ramp(context) * temperature**2
        return {
            "task": task[:count].sum(),
            "ensemble_task": task[count],
            "ensemble": scale * divergences[:count].sum(),
            "averaged_peers": scale / (count - 1) * divergences[count:].sum(),
        }
