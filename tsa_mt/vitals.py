"""A run tells about itself: does distillation act, and is there anything left to distil?

* *Pressure* on a leaf: the norm of the gradient that all other terms send into its features through
  its logits, divided by the norm of its own task loss's gradient. The head has both
  gradients. The first chunk of a batch is enough.
* *Head-room*: the mean negative log-likelihood of the leaves minus that of their ensemble (the mean
  of their probabilities). It is what the leaves can learn from each other, and 0 once they are one
  network.
* *Effective classes*: the exponential of the mean entropy of the softened distributions that are
  imitated. Near the number of classes they say next to nothing about the label.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tsa_mt.objectives.rows import Formula, Rows

TASK, REST = "pressure_task_b", "pressure_rest_b"


def pressure_sums(
    objective: Formula,
    rows: Rows,
    gradient: Tensor,
    into_features: Callable[[int, Tensor], Tensor],
) -> dict[str, Tensor]:
    """Squared norms of the task's and of the other terms' gradients with respect to features.

    Args:
        objective: The one that was evaluated. Where it has ``leader_apart``, the leader's task loss
            is not among its terms.
        rows: What it saw.
        gradient: ``(leaves, rows, classes)`` of all its terms with respect to the logits.
        into_features: Takes a leaf and its ``(rows, classes)`` gradient back to ``(rows, dim)``.

    Returns:
        Sums over rows for every leaf of the tree; of the first pass where there are several.
    """
    with torch.enable_grad():
        logits = rows.logits()[: objective.leaves].detach().requires_grad_()
        task = Rows(logits, rows.targets, context=rows.context).task_losses().sum()
        (own,) = torch.autograd.grad(objective.task_weight(rows.context) * task, logits)
    sums = {}
    for leaf, (of_task, of_all) in enumerate(zip(own, gradient)):
        task_pull, whole = into_features(leaf, of_task).float(), into_features(leaf, of_all).float()
        sums[f"{TASK}{leaf}"] = task_pull.square().sum()
        apart = leaf == 0 and getattr(objective, "leader_apart", False)
        sums[f"{REST}{leaf}"] = (whole if apart else whole - task_pull).square().sum()
    return sums


def headroom(log_probs: Tensor, target: Tensor) -> Tensor:
    """Mean nll of the leaves minus that of the mean of their probabilities, summed over rows.

    Args:
        log_probs: ``(leaves, rows, classes)``.
        target: ``(rows,)`` class indices.
    """
    index = target.expand(len(log_probs), -1).unsqueeze(-1)
    of_target = log_probs.gather(-1, index).squeeze(-1)
    ensemble = of_target.logsumexp(0) - torch.tensor(len(log_probs)).log()
    return (ensemble - of_target.mean(0)).sum()


def entropy(log_probs: Tensor) -> Tensor:
    """Mean entropy over the leaves in nats, summed over rows.

    Args:
        log_probs: ``(leaves, rows, classes)``.
    """
    return -(log_probs.exp() * log_probs).sum() / len(log_probs)
