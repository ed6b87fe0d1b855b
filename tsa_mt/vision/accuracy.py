"""Top-1 and top-5 accuracy of the leader, of every leaf and of the ensemble, under fixed names.

=========================  ====================================================
``accuracy``               leader, top-1, in percent (the criterion logs it for text too)
``accuracy_top5``          leader, top-5
``accuracy_bK``            leaf K (``accuracy_b0`` is the leader), top-1
``accuracy_bK_top5``       leaf K, top-5
``accuracy_ensemble``      mean of the leaves' logits, top-1
``accuracy_ensemble_top5`` the same, top-5
``accuracy_bridge``        SOKD's bridge, top-1 (and ``accuracy_bridge_top5``)
=========================  ====================================================

The ensemble is the one whose accuracy TSA's and OKDDip's code prints.
"""

from typing import Dict

import torch
from torch import Tensor

TOP = 5
PREFIX = "correct_"
"""Statistics that start with it are counts of rows; the criterion logs them as ``accuracy_...``."""


def accuracy_statistics(logits: Tensor, target: Tensor, leaves: int) -> Dict[str, Tensor]:
    """Counts correct predictions.

    Args:
        logits: ``(leaves or leaves + 1, rows, classes)``; a bridge comes after the leaves.
        target: ``(rows,)`` class indices.
        leaves: Number of leaves of the tree.

    Returns:
        Counts by ``correct_`` and the accuracy's name; with five or fewer classes every row is
        right among five.
    """
    logits = logits.detach().float()
    everyone = torch.cat([logits, logits[:leaves].mean(0, keepdim=True)])
    best = everyone.topk(min(TOP, everyone.shape[-1]), dim=-1).indices
    hits = (best == target[:, None]).sum(1)  # classifiers x ranks
    bridge = ["bridge"] * (len(logits) - leaves)
    names = [*(f"b{leaf}" for leaf in range(leaves)), *bridge, "ensemble"]
    counts = {f"{PREFIX}top5": hits[0].sum()}
    for name, row in zip(names, hits):
        counts[f"{PREFIX}{name}"] = row[0]
        counts[f"{PREFIX}{name}_top5"] = row.sum()
    return counts
