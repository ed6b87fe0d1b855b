"""The pure functions: values and gradients against loops over single numbers, in float64."""

import math

import pytest
import torch

from tsa_mt.objectives import functional

LEAVES, ROWS, CLASSES = 3, 4, 5


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(LEAVES, ROWS, CLASSES, dtype=torch.float64, generator=generator)


@pytest.fixture
def target():
    return torch.tensor([0, 4, 2, 4])


def naive_cross_entropy(log_probs, target, smoothing):
    """Expected negative log-probability under a target that gives ``smoothing`` to the others."""
    classes = log_probs.shape[-1]
    losses = []
    for leaf in log_probs:
        loss = 0.0
        for row, true in zip(leaf, target.tolist(), strict=True):
            for index, value in enumerate(row):
                share = smoothing / (classes - 1)
                loss = loss - (1.0 - smoothing if index == true else share) * value
        losses.append(loss)
    return torch.stack(losses)


def naive_pairwise_kl(log_probs, detach):
    """sum_k sum_{j != k} KL(p_j || p_k), one pair and one class at a time."""
    total = 0.0
    for k in range(len(log_probs)):
        for j in range(len(log_probs)):
            if j != k:
                imitated = log_probs[j].detach() if detach else log_probs[j]
                total = total + (imitated.exp() * (imitated - log_probs[k])).sum()
    return torch.as_tensor(total)


def assert_same_value_and_gradient(function, reference, logits):
    """Of two functions of log-probabilities."""
    assert_same_of_logits(
        lambda z: function(torch.log_softmax(z, -1)),
        lambda z: reference(torch.log_softmax(z, -1)),
        logits,
    )


def assert_same_of_logits(function, reference, logits):
    gradients = []
    for way in (function, reference):
        leaf = logits.clone().requires_grad_()
        value = way(leaf)
        weights = torch.arange(1.0, value.numel() + 1, dtype=value.dtype).view(value.shape)
        (value * weights).sum().backward()
        gradients.append((value.detach(), leaf.grad))
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_the_expectation_under_the_smoothed_target(logits, target, smoothing):
    assert_same_value_and_gradient(
        lambda log_probs: functional.cross_entropy(log_probs, target, smoothing),
        lambda log_probs: naive_cross_entropy(log_probs, target, smoothing),
        logits,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_logits_is_the_same_with_the_gradient_of_the_logits(
    logits, target, smoothing
):
    cross_entropy_of_logits = functional.cross_entropy_of_logits
    assert_same_of_logits(
        lambda z: cross_entropy_of_logits(z, torch.log_softmax(z, -1), target, smoothing),
        lambda z: naive_cross_entropy(torch.log_softmax(z, -1), target, smoothing),
        logits,
    )


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_pairwise_kl_of_logits_softens_them_by_the_temperature(logits, detach, temperature):
    shift = torch.tensor([5.0, -3.0, 0.5]).view(LEAVES, 1, 1)  # which no softmax may notice
    assert_same_of_logits(
        lambda z: functional.pairwise_kl(z, detach, temperature),
        lambda z: naive_pairwise_kl(torch.log_softmax(z / temperature, -1), detach),
        logits + shift,
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_get_gradients_of_their_type_and_float32_losses(
    logits, target, dtype
):
    half = logits.to(dtype).requires_grad_()
    log_probs = torch.log_softmax(half, -1, dtype=torch.float32)
    losses = functional.cross_entropy_of_logits(half, log_probs, target, 0.1)
    divergence = functional.pairwise_kl(half, temperature=3.0)
    assert losses.dtype == divergence.dtype == torch.float32
    (gradient,) = torch.autograd.grad(losses.sum() + divergence, half)
    assert gradient.dtype == dtype


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("leaves", [1, 2, 3])
def test_pairwise_kl_is_the_sum_over_all_ordered_pairs(logits, leaves, detach):
    assert_same_value_and_gradient(
        lambda log_probs: functional.pairwise_kl(log_probs, detach),
        lambda log_probs: naive_pairwise_kl(log_probs, detach) + 0.0 * log_probs.sum(),
        logits[:leaves],
    )


def test_first_derivatives_pass_gradcheck(logits, target):
    log_probs = torch.log_softmax(logits, -1).requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda x: functional.cross_entropy(x, target, 0.1), log_probs)
    assert check(functional.pairwise_kl, log_probs)
    assert check(lambda x: functional.pairwise_kl(x, temperature=3.0), logits.requires_grad_())


def test_without_rows_all_sums_are_finite_zeros():
    log_probs = torch.zeros(LEAVES, 0, CLASSES, requires_grad=True)
    target = torch.zeros(0, dtype=torch.long)
    assert functional.cross_entropy(log_probs, target, 0.1).tolist() == [0.0] * LEAVES
    for detach in (False, True):
        value = functional.pairwise_kl(log_probs, detach)
        assert value.item() == 0.0
        value.backward()
    assert functional.mean_pairwise_kl(log_probs).item() == 0.0
    assert functional.agreement(log_probs.argmax(-1)).item() == 0.0


def test_a_row_that_is_certain_costs_nothing_and_stays_finite():
    log_probs = torch.log_softmax(torch.tensor([[[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]]]), -1)
    assert functional.cross_entropy(log_probs, torch.tensor([0])).tolist() == [0.0, 2e4]
    log_probs.requires_grad_()
    value = functional.pairwise_kl(log_probs)
    value.backward()
    assert value.item() == 4e4
    assert log_probs.grad.isfinite().all()


@pytest.mark.parametrize(
    ("progress", "value"),
    [(0.0, math.exp(-5.0)), (0.5, math.exp(-1.25)), (1.0, 1.0), (-1.0, math.exp(-5.0)), (7.0, 1.0)],
)
def test_the_gaussian_ramp_up_rises_to_one_and_is_clipped(progress, value):
    assert functional.gaussian_rampup(progress) == pytest.approx(value)


def test_agreement_counts_rows_averaged_over_pairs():
    predicted = torch.tensor([[1, 2, 3, 4], [1, 2, 0, 0], [1, 0, 3, 0]])
    shared = [2, 2, 1 + 1]  # leaves 0-1: rows 0, 1; leaves 0-2: rows 0, 2; leaves 1-2: rows 0, 3
    assert functional.agreement(predicted).item() == pytest.approx(sum(shared) / 3)
    assert functional.agreement(predicted[:1]).item() == 4.0


def test_mean_pairwise_kl_is_the_average_over_ordered_pairs(logits):
    log_probs = torch.log_softmax(logits, -1)
    expected = naive_pairwise_kl(log_probs, detach=False) / (LEAVES * (LEAVES - 1))
    torch.testing.assert_close(functional.mean_pairwise_kl(log_probs), expected)
    assert functional.mean_pairwise_kl(log_probs[:1]).item() == 0.0


def test_kl_divergence_is_the_textbook_formula_in_both_arguments(logits):
    ours = logits.clone().requires_grad_()
    log_probs = torch.log_softmax(ours, -1)
    value = functional.kl_divergence(log_probs[0], log_probs[1])
    (gradient,) = torch.autograd.grad(value, ours)
    theirs = logits.clone().requires_grad_()
    log_probs = torch.log_softmax(theirs, -1)
    expected = torch.nn.functional.kl_div(
        log_probs[1], log_probs[0], log_target=True, reduction="sum"
    )
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, theirs)[0])
