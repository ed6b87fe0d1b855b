"""What a run tells about itself: pressure, head-room, effective classes, and plain sentences."""

import math

import pytest
import torch

from tsa_mt.branches import BranchOutputs, Projection
from tsa_mt.head import branch_head
from tsa_mt.objectives import Context, build_objective
from tsa_mt.remarks import remarks
from tsa_mt.row_share import shared_head
from tsa_mt.vitals import entropy, headroom

ROWS, DIM, CLASSES, LEAVES = 6, 5, 9, 3
CONTEXT = Context(0.7, 0.1)


def nothing(rows, first):
    return {}


def batch(name="tsa", dtype=torch.float64, separate=False, **options):
    """Arguments of the head, and the features and weights among them."""
    torch.manual_seed(2)
    okd = build_objective(name, "0(1,1,1)", DIM, CLASSES, **options).to(dtype)
    passes = 2 if options.get("rdrop_weight") else 1
    count = passes * LEAVES
    features = [torch.randn(ROWS, DIM, dtype=dtype).requires_grad_() for _ in range(count)]
    weights = [torch.randn(CLASSES, DIM, dtype=dtype).requires_grad_() for _ in range(LEAVES)]
    own = [Projection(weights[leaf if separate else 0]) for leaf in range(LEAVES)] * passes
    if not separate:
        own = [own[0]] * count
    return okd, BranchOutputs(features), own, torch.randint(CLASSES, (ROWS,)), CONTEXT


def expected_pressure(okd, outputs, projections, target, context, leaf):
    """By plain autograd through the features."""
    result = branch_head(okd, outputs, projections, target, context, chunk_rows=0)
    logits = outputs.features[leaf] @ projections[leaf].weight.t()
    plain = build_objective("independent", "2", DIM, CLASSES, label_smoothing=0.1)
    task = okd.task_weight(context) * plain([logits], target)["task"]
    (of_task,) = torch.autograd.grad(task, outputs.features[leaf])
    (of_all,) = torch.autograd.grad(result.total, outputs.features[leaf])
    return float((of_all - of_task).norm() / of_task.norm())


def measured(statistics, leaf):
    rest, task = (statistics[f"pressure_{part}_b{leaf}"] for part in ("rest", "task"))
    return math.sqrt(rest / task)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize(
    ("name", "options"), [("tsa", {}), ("dml", {}), ("tsa", {"rdrop_weight": 2.0})], ids=str
)
def test_pressure_is_the_ratio_of_two_gradients_in_the_features(name, options, separate):
    arguments = batch(name, separate=separate, **options)
    statistics = branch_head(*arguments, observer=nothing).statistics
    for leaf in range(LEAVES):
        expected = expected_pressure(*arguments, leaf)
        assert measured(statistics, leaf) == pytest.approx(expected, rel=1e-6)
    assert f"pressure_rest_b{LEAVES}" not in statistics


def test_pressure_is_taken_from_the_first_chunk():
    okd, outputs, projections, target, context = batch()
    found = branch_head(okd, outputs, projections, target, context, 2, nothing).statistics
    first = BranchOutputs([feature[:2] for feature in outputs.features])
    alone = branch_head(okd, first, projections, target[:2], context, 2, nothing).statistics
    torch.testing.assert_close(found, alone)


def test_on_all_rows_a_share_of_them_has_the_same_pressure():
    arguments, every = batch(), torch.ones(ROWS, dtype=torch.bool)
    plain = branch_head(*arguments, observer=nothing).statistics
    for share in (0.25, 1.0):
        shared = shared_head(*arguments, every, share, None, lambda rows, first: LEADER).statistics
        for leaf in range(LEAVES):
            assert measured(shared, leaf) == pytest.approx(measured(plain, leaf), rel=1e-9)


LEADER = dict.fromkeys(("loss", "nll_loss", "n_correct", "nll_b0"), torch.zeros(()))


def test_what_has_a_task_alone_has_no_pressure():
    assert branch_head(*batch("independent"), observer=nothing).statistics == {}


def test_head_room_is_what_the_ensemble_is_better_than_its_leaves():
    logits, target = torch.randn(3, 4, 7), torch.tensor([0, 6, 3, 2])
    log_probs = logits.log_softmax(-1)
    rows = torch.arange(4)
    leaves = -log_probs[:, rows, target].mean(0).sum()
    together = -log_probs.exp().mean(0)[rows, target].log().sum()
    torch.testing.assert_close(headroom(log_probs, target), leaves - together)
    alike = log_probs[:1].expand(3, -1, -1)
    torch.testing.assert_close(headroom(alike, target), torch.tensor(0.0), atol=1e-5, rtol=0)


def test_the_exponential_of_the_entropy_counts_classes():
    uniform = torch.zeros(2, 5, 8).log_softmax(-1)
    assert (entropy(uniform) / 5).exp() == pytest.approx(8)
    certain = torch.tensor([[[50.0, 0.0, 0.0]]]).log_softmax(-1)
    assert entropy(certain).exp() == pytest.approx(1)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"pressure_b0": 0.002, "pressure_b1": 0.004}, ["Distillation does nothing: its gradient"]),
        ({"pressure_b0": 0.002, "pressure_b1": 0.2}, []),
        ({"pressure_b0": 0.002, "ramp": 0.3}, []),
        ({"pressure_b0": 0.002, "ramp": 0.95}, ["is at most 0.002 of the task loss's in every"]),
        ({"headroom": 0.02, "nll_loss": 4.0}, ["The leaves have nothing left to teach each other"]),
        ({"headroom": 0.2, "nll_loss": 4.0}, []),
        ({"nll_loss": 4.0}, []),
    ],
)
def test_a_run_says_in_words_what_has_no_effect(figures, words):
    found = remarks(figures)
    assert len(found) == len(words)
    assert all(word in remark for word, remark in zip(words, found.values()))
