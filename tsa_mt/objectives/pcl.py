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
* Moving average: decay ``min(1 - 1/n, .999)`` after update n, over everything but the
  feature teacher.
* The averaged network validates, so that it chooses the checkpoint, and its leader is exported
  (``ships_average``), as in the code; ``--branch 0`` takes the raw leader.

Deviations. The code divides by 1 instead of 80 in its ramp-up, so that distillation is nearly off
for 80 epochs; the ramp-up here is the intended one. The code runs the averaged network in training
mode with running statistics of its own; here it runs in evaluation mode, without dropout, and
averages the statistics.

Standalone call: pass the averaged peers' logits, leaf by leaf, as ``teacher_logits``.
"""

from typing import Any

import torch
from torch import nn

from tsa_mt.branches import BranchOutputs, Projection
from tsa_mt.objectives import LEAVES, LossTerms, Option, RampedObjective, Rows, register_objective
from tsa_mt.objectives import functional as F


@register_objective("pcl")
class PCL(RampedObjective):
    """A teacher on all features and an averaged peer group; see the module's docstring.

    Detached: both kinds of teachers.
    Form: *by another's code*: Wu and Gong 2021,
        [code](https://github.com/shaoeric/Peer-Collaborative-Learning-for-Online-Knowledge-Distillation).
    """

    default_tree = "fork"
    ordered = True
    fuses_features = True
    ships_average = True
    strength = Option.strength(1.0)
    temperature = Option.temperature(3.0)
    rampup = Option.rampup(80, of=300)
    decay = Option.average_decay(0.999)
    own_augmentation = Option.own_augmentation(True)

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        if self.leaves > 1:
            self.classifier = nn.Linear(self.leaves * self.feature_dim, self.num_classes)

    @property
    def average_decay(self) -> float | None:
        """See `Objective.average_decay`."""
        return self.decay if self.leaves > 1 else None

    @property
    def projections(self) -> list[Projection]:
        """The feature teacher's; see `Objective.projections`."""
        if self.leaves == 1:
            return []
        return [Projection(self.classifier.weight, self.classifier.bias)]

    @property
    def gradients(self) -> dict[str, tuple[str, ...]]:
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
        return outputs.with_leaf(torch.cat(outputs.features, dim=-1))

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; two task losses and two kinds of teachers."""
        if rows.leaves == 1:
            return rows.task_alone(self.gradients)
        count = self.leaves
        task = rows.task_losses()
        students = rows.log_probs(temperature=self.temperature)
        averaged = rows.teacher.log_probs(temperature=self.temperature)
        # distributions: leaves 0 .. K-1, their averages, the feature teacher
        pairs = [(2 * count, leaf) for leaf in range(count)]
        pairs += [(count + j, k) for k in range(count) for j in range(count) if j != k]
        divergences = F.paired_kl(pairs, students[:count], averaged, students[count:].detach())
        scale = self.strength * self.ramp(rows) * self.temperature**2
        return {
            "task": task[:count].sum(),
            "ensemble_task": task[count],
            "ensemble": scale * divergences[:count].sum(),
            "averaged_peers": scale / (count - 1) * divergences[count:].sum(),
        }
