"""Targets that several objectives imitate, made of the leaves' own predictions."""

from torch import Tensor

from tsa_mt.branches import Predictions, log_softmax
from tsa_mt.objectives.functional import mean_of_others, paired_kl


def kl_to_mean_of_others(predictions: Predictions, temperature: float, detach: bool) -> Tensor:
    """``sum_k KL(softmax(m_k / T) || softmax(z_k / T))``, ``m_k`` the mean logit of the others."""
    logits = predictions.logits.detach() if detach else predictions.logits
    targets = log_softmax(mean_of_others(logits), temperature)
    pairs = [(leaf, predictions.leaves + leaf) for leaf in range(predictions.leaves)]
    return paired_kl(pairs, targets, predictions.log_probs(temperature)).sum()
