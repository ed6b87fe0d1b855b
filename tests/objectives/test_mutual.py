"""The closed form of mutual losses against autograd through the plain functions."""

import pytest
import torch

from tsa_mt import compiled
from tsa_mt.objectives.functional import (
    cross_entropy,
    cross_entropy_of_logits,
    log_softmax,
    pairwise_kl,
)
from tsa_mt.objectives.mutual import Mutual, mutual_function

LOSSES = {
    "task alone": Mutual(),
    "integral temperature": Mutual(0.7, 0.1, 3.0),
    "odd temperature": Mutual(0.5, 0.2, 2.5),
    "high temperature": Mutual(0.5, 0.2, 6.0),
    "detached targets": Mutual(1.0, 0.3, 1.0, detach=True),
}


def make_batch(leaves=3, rows=5, classes=11, dtype=torch.float64):
    torch.manual_seed(0)
    logits = 4 * torch.randn(leaves, rows, classes, dtype=dtype)
    return logits, torch.randint(0, classes, (rows,))


def plain(loss, logits, target, smoothing):
    """Value of both terms, and the gradient of their sum, by autograd."""
    logits = logits.clone().requires_grad_()
    task = cross_entropy_of_logits(logits, log_softmax(logits), target, smoothing).sum()
    divergence = pairwise_kl(logits, loss.detach, loss.temperature)
    terms = loss.task * task, loss.divergence * divergence
    (gradient,) = torch.autograd.grad(sum(terms), logits)
    return *(term.detach() for term in terms), gradient


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_equal_those_of_autograd(name, smoothing):
    loss, (logits, target) = LOSSES[name], make_batch()
    found = mutual_function(loss, smoothing)(logits, target)
    task, divergence, gradient = plain(loss, logits, target, smoothing)
    torch.testing.assert_close(found.task, task, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.divergence, divergence, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-12, atol=1e-12)


def test_the_logged_figures_are_the_leaders_and_every_leafs():
    logits, target = make_batch(rows=40)
    found = mutual_function(LOSSES["integral temperature"], 0.1)(logits, target)
    log_probs = log_softmax(logits)
    torch.testing.assert_close(found.nll, cross_entropy(log_probs, target))
    torch.testing.assert_close(found.smoothed, cross_entropy(log_probs[:1], target, 0.1)[0])
    assert found.correct == (logits[0].argmax(-1) == target).sum() > 0


def test_of_equal_largest_logits_the_first_counts_as_predicted():
    logits = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    assert mutual_function(Mutual(), 0.0)(logits, torch.tensor([0, 1, 2])).correct == 2


def test_bfloat16_logits_are_computed_in_float32_and_their_gradient_is_rounded():
    loss, (logits, target) = LOSSES["integral temperature"], make_batch(dtype=torch.bfloat16)
    found = mutual_function(loss, 0.1)(logits, target)
    task, divergence, gradient = plain(loss, logits.float(), target, 0.1)
    assert found.gradient.dtype == torch.bfloat16 and found.task.dtype == torch.float32
    torch.testing.assert_close(found.task, task)
    torch.testing.assert_close(found.divergence, divergence)
    torch.testing.assert_close(found.gradient.float(), gradient, rtol=2**-8, atol=1e-6)


def test_large_logits_overflow_nothing():
    logits, target = make_batch(dtype=torch.float32)
    found = mutual_function(LOSSES["integral temperature"], 0.1)(logits * 1e4, target)
    assert all(part.isfinite().all() for part in found)


def test_without_a_compiler_the_log_says_so_and_there_is_no_function(monkeypatch, caplog):
    def broken(*args, **options):
        raise RuntimeError("no g++ here\nand a long trace")

    monkeypatch.setattr(torch, "compile", broken)
    compiled.compiled_mutual.cache_clear()
    assert compiled.compiled_mutual(Mutual(), 0.1, 2, 4000, torch.float32, "cpu") is None
    assert (
        "the losses run uncompiled, which is slower and equally right: RuntimeError: no g++ "
        in (caplog.text)
    )
    assert "long trace" not in caplog.text
    compiled.compiled_mutual.cache_clear()


def test_the_compiled_function_equals_its_source_for_any_number_of_rows():
    function = compiled.compiled_mutual(
        LOSSES["integral temperature"], 0.1, 2, 64, torch.float32, "cpu"
    )
    if function is None:
        pytest.skip("no C++ compiler works here")
    for rows in (2, 17):
        logits, target = make_batch(2, rows, 64, torch.float32)
        expected = mutual_function(LOSSES["integral temperature"], 0.1)(logits, target)
        for found, wanted in zip(function(logits, target), expected):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
