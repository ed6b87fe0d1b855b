"""Independent leaves: the task loss of each and nothing else."""

import pytest
import torch

from tsa_mt.objectives import build_objective

TREES = {1: "2", 2: "0(1,1)", 4: "0(1,1,1,1)"}


def naive(logits, target, smoothing):
    """sum_k CE(z_k, y), one row and one class at a time; the true class keeps 1 - smoothing."""
    total = 0.0
    for leaf in logits:
        for row, true in zip(leaf, target.tolist(), strict=True):
            normaliser = sum(torch.exp(value) for value in row).log()
            for index, value in enumerate(row):
                share = 1.0 - smoothing if index == true else smoothing / (len(row) - 1)
                total = total - share * (value - normaliser)
    return total


@pytest.mark.parametrize("leaves", TREES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_value_and_gradients_are_the_sum_of_the_leaves_losses(leaves, smoothing):
    generator = torch.Generator().manual_seed(leaves)
    logits = torch.randn(leaves, 3, 6, dtype=torch.float64, generator=generator)
    target = torch.tensor([5, 0, 2])
    okd = build_objective("independent", TREES[leaves], 8, 6, label_smoothing=smoothing)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    terms, expected = okd(list(ours), target), naive(theirs, target, smoothing)
    assert set(terms) == {"task"}
    torch.testing.assert_close(terms["task"], expected)
    terms["task"].backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_leaf_learns_nothing_from_another():
    logits = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    okd = build_objective("independent", "0(1,1)", 8, 6)
    target = torch.tensor([5, 0, 2])
    gradients = []
    for other in (logits[1], logits[1] + torch.randn(3, 6)):
        leader = logits[0].clone().requires_grad_()
        okd([leader, other], target)["task"].backward()
        gradients.append(leader.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_it_is_published_on_a_chain():
    assert type(build_objective("independent", "2", 8, 6)).default_tree == "chain"
