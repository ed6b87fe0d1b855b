"""OKDDip: online knowledge distillation with diverse peers (Chen et al., AAAI 2020).

Paper: https://arxiv.org/abs/1912.00350. Code: https://github.com/DefangChen/OKDDip-AAAI2020
(``train_GL.py``, ``models/model_cifar/resnet_GL.py`` and ``utils.py`` at c6a05de).

Two levels. Every peer a = 1 .. K-1 imitates its own mixture of all peers' logits (itself included),
weighted by attention on their features h; the leader 0 imitates the plain mean of the peers::

    L = sum_{k=0}^{K-1} CE(z_k, y)
        + s w(e) T^2 [ sum_{a=1}^{K-1} KL(q(t_a) || q(z_a))  +  KL(q(m) || q(z_0)) ],

    q(z) = softmax(z / T),    t_a = sum_b A_ab z_b,    m = 1/(K-1) sum_b z_b,    b = 1 .. K-1,
    A_ab = softmax_b( (W_L h_a) . (W_E h_b) )

* Strength ``s`` = 1, temperature ``T`` = 3; ramp-up ``w(e) = exp(-5 (1 - e)^2)`` over the first 80
  of 300 epochs.
* Direction: ``KL(target || student)`` in both levels.
* Detached: nothing. The attention learns through the target only, and the leader's target passes
  its gradient on to the peers. ``detach`` makes the mixed logits constant and keeps the attention
  trainable.
* Summed over leaves.
* ``W_L`` and ``W_E`` are shared by all peers, have no bias and reduce the width by 8; there is no
  division by a square root, and the leader takes no part in the attention.
* The code's group leader is its last branch, ours is leaf 0. With two leaves the only peer imitates
  itself and the first level is zero.

Deviations. The code mixes logits, the paper softened predictions: ``mix_predictions`` does that.
The code adds 1e-7 to the target's probabilities, we do not: over a large vocabulary it would weigh
.03 per row. Rows of text attend with their own feature where images attend with a pooled one.
Whole networks as peers (the paper's network-based variant): tree ``peers``, ``--peer-encoders``.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tsa_mt.branches import BranchOutputs
from tsa_mt.objectives import LEAVES, LossTerms, Option, RampedObjective, Rows, register_objective
from tsa_mt.objectives import functional as F
from tsa_mt.objectives.fusion import softmax

REDUCTION = 8
"""How much narrower the attention is than the features."""


@register_objective("okddip")
class OKDDip(RampedObjective):
    """Peers with attention-based targets and a leader; see the module's docstring.

    Detached: nothing (``--kd-detach``).
    Form: *by its code*: Chen et al. 2020, [code](https://github.com/DefangChen/OKDDip-AAAI2020).
    """

    default_tree = "fork"
    fuses_features = True
    strength = Option.strength(1.0)
    temperature = Option.temperature(3.0)
    rampup = Option.rampup(80, of=300)
    mix_predictions = Option(
        False, "mix the peers' softened probabilities, as the paper has it, instead of logits"
    )
    attention_scale = Option(
        False, "divide the attention's scores by the square root of the keys' width"
    )
    detach = Option.detach(False)

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        if self.leaves > 1:
            width = max(1, self.feature_dim // REDUCTION)
            self.query = nn.Linear(self.feature_dim, width, bias=False)
            self.key = nn.Linear(self.feature_dim, width, bias=False)

    @property
    def gradients(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.gradients`."""
        leader = ("leader",) if self.detach else LEAVES
        return {"task": LEAVES, "peers": ("peers", "gates"), "leader": leader}

    def fuse(self, outputs: BranchOutputs) -> BranchOutputs:
        """Adds the gate ``attention``: ``(..., peers, peers)``, rows sum to 1."""
        if self.leaves == 1:
            return outputs
        features = torch.stack(outputs.features[1:], dim=-2)  # ... x peers x dim
        scores = self.query(features) @ self.key(features).transpose(-1, -2)
        if self.attention_scale:
            scores = scores / self.key.out_features**0.5
        return outputs.with_gate("attention", softmax(scores))

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; terms are ``task``, ``peers`` and ``leader``."""
        if rows.leaves == 1:
            return rows.task_alone(self.gradients)
        task = rows.task_losses().sum()
        attention = rows.gate("attention")
        rows.log("attention_largest", attention.amax(-1).mean(-1).sum())
        targets = self._log_targets(rows, attention)
        students = rows.log_probs(temperature=self.temperature)
        pairs = [(leaf, rows.leaves + leaf) for leaf in range(rows.leaves)]
        scale = self.strength * self.ramp(rows) * self.temperature**2
        divergences = scale * F.paired_kl(pairs, targets, students)
        return {"task": task, "peers": divergences[1:].sum(), "leader": divergences[0]}

    def _log_targets(self, rows: Rows, attention: Tensor) -> Tensor:
        """Log-probabilities of what every leaf imitates, ``(leaves, rows, classes)``."""
        peers = attention.shape[-1]
        mean = attention.new_full((len(attention), 1, peers), 1.0 / peers)
        weights = torch.cat([mean, attention], dim=1)  # rows x leaves x peers
        if self.mix_predictions:
            log_probs = rows.log_probs(temperature=self.temperature)[1:]
            return F.log_mixture(log_probs.detach() if self.detach else log_probs, weights)
        logits = rows.logits()[1:]
        mixed = F.mixture(logits.detach() if self.detach else logits, weights)
        return F.log_softmax(mixed, self.temperature)
