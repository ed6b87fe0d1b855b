"""The rows that a formula sees: logits, log-probabilities, features, teachers and statistics."""

import pytest
import torch

from tsa_mt import head
from tsa_mt.branches import BranchOutputs, Projection
from tsa_mt.objectives import Context, Objective, Rows
from tsa_mt.objectives import functional as F
from tsa_mt.objectives.rows import Predictions
from tsa_mt.tree import Tree

TARGET = torch.tensor([0, 4, 2])


def logits(leaves=2, seed=0):
    return torch.randn(leaves, 3, 7, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_log_softmax_is_computed_in_float32_or_wider(dtype, temperature):
    half = (10 * logits()).to(dtype)
    result = F.log_softmax(half, temperature)
    assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact = torch.log_softmax(half.double() / temperature, -1)
    torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=1e-5)


def test_log_probabilities_are_computed_once_per_temperature():
    predictions = Predictions(list(logits()))
    assert predictions.leaves == 2
    assert predictions.log_probs() is predictions.log_probs(temperature=1.0)
    softened = predictions.log_probs(temperature=2.0)
    assert predictions.log_probs(temperature=2.0) is softened
    assert softened is not predictions.log_probs()
    assert torch.equal(predictions.log_probs(1, 2.0), softened[1])


def test_predictions_take_one_tensor_or_one_per_leaf():
    stacked = logits()
    assert Predictions(stacked).logits() is stacked
    assert torch.equal(Predictions(list(stacked)).logits(), stacked)
    assert torch.equal(Predictions(stacked).logits(1), stacked[1])


def test_rows_without_a_teacher_say_so():
    with pytest.raises(ValueError, match="needs a teacher's logits, and these rows have none"):
        _ = Rows(logits(), TARGET).teacher
    taught = Rows(logits(), TARGET, teacher=Predictions(logits(3)))
    expected = torch.log_softmax(logits(3) / 2.0, -1).exp().mean(0)
    torch.testing.assert_close(taught.teacher.mean_log_probs(2.0).exp(), expected)


def test_the_task_loss_of_other_logits_is_that_of_the_leaves():
    rows = Rows(logits(), TARGET, context=Context(label_smoothing=0.1))
    torch.testing.assert_close(rows.task_loss_of(rows.logits()), rows.task_losses().sum())


def test_a_part_shares_log_probabilities_and_logs_its_share_of_the_leaves():
    features = [torch.full((3, 1), float(leaf)) for leaf in range(4)]
    rows = Rows(logits(4), TARGET, features, context=Context(progress=0.5))
    gate = torch.ones(3)
    second = rows.part(slice(2, 4), {"gate": gate})
    assert (second.leaves, second.progress) == (2, 0.5)
    assert torch.equal(second.logits(), rows.logits()[2:])
    assert second.log_probs().data_ptr() == rows.log_probs()[2:].data_ptr()
    assert second.features(1) is features[3] and second.gate("gate") is gate
    for part in (rows.part(slice(0, 2), {}), second):
        part.log("sharpness", torch.tensor(6.0))
    assert rows.logged == {"per_row:sharpness": torch.tensor(6.0)}  # the parts' mean


class Aligned(Objective):
    """A test's own objective that reads features and logs: leaf 1 has the leader's features."""

    def terms(self, rows):
        gap = (rows.features(0) - rows.features(1)).square().sum()
        rows.log("gap", gap)
        return {"task": rows.task_losses().sum(), "gap": gap}


@pytest.mark.parametrize("way", ["gradient_in_forward", "recompute"])
def test_the_gradient_of_a_feature_and_what_is_logged_do_not_depend_on_chunks(way, monkeypatch):
    if way == "recompute":
        monkeypatch.setattr(head, "_gradient_in_forward", head._recompute)
    found = []
    for chunk_rows in (0, 2):
        generator = torch.Generator().manual_seed(1)
        tensors = [
            torch.randn(*size, dtype=torch.float64, generator=generator).requires_grad_()
            for size in ((3, 4), (3, 4), (7, 4))
        ]
        okd = Aligned(Tree.parse("0(1,1)"), 4, 7)
        projections = [Projection(tensors[2])] * 2
        outputs = okd.fuse(BranchOutputs(tensors[:2]))
        result = head.branch_head(okd, outputs, projections, TARGET, Context(), chunk_rows)
        result.total.backward()
        assert result.statistics == {"per_row:gap": result.terms["gap"]}
        found.append([result.terms["gap"], *(tensor.grad for tensor in tensors)])
    for chunked, whole in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-6)
