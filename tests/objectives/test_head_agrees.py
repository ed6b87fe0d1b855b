"""Every objective through the chunked head: the same numbers as one chunk of plain autograd."""

import pytest
import torch
from naive_losses import Case, numbers

from tsa_mt import head
from tsa_mt.branches import BranchOutputs, Projection, TeacherOutputs
from tsa_mt.objectives import OBJECTIVES, Context
from tsa_mt.objectives.consistency import passes_of

ROWS, CLASSES, DIM = 11, 13, 8
CHUNK = 3
OPTIONS = [(name, {}) for name in OBJECTIVES]
OPTIONS += [(name, {"rdrop_weight": 2.0}) for name in ("tsa", "okddip", "ahbf", "one", "pcl")]
OPTIONS += [("okddip", {"mix_predictions": True}), ("one", {"detach": False})]


def gradients(name, options, chunk_rows):
    """Terms, and the gradients of features, projections and the objective's parameters."""
    leaves = 1 if OBJECTIVES[name].needs_bridge else 4
    case = Case(leaves, ROWS, CLASSES, 0.5, seed=3, options=options)
    okd = case.objective(name)
    passes, own = passes_of(okd), okd.leaves
    features = numbers(own, passes * ROWS, DIM, seed=1).requires_grad_()
    trunk = numbers(passes * ROWS, DIM, seed=2).requires_grad_()
    shared, separate = (numbers(CLASSES, DIM, seed=n).requires_grad_() for n in (4, 5))
    outputs = okd.fuse(BranchOutputs(list(features), trunk=trunk))
    weights = [shared] * (own - 1) + [separate]
    projections = ([Projection(weight) for weight in weights] + okd.projections) * passes
    result = head.branch_head(
        okd,
        outputs,
        projections,
        case.target,
        Context(progress=0.5, label_smoothing=0.1),
        chunk_rows=chunk_rows,
        teachers=teachers_of(okd),
    )
    (3.0 * result.total).backward()
    wanted = {"features": features, "shared": shared, "separate": separate, "trunk": trunk}
    grads = {key: value.grad for key, value in {**wanted, **dict(okd.named_parameters())}.items()}
    return result.terms, {key: grad for key, grad in grads.items() if grad is not None}


def teachers_of(okd):
    count = okd.leaves if okd.average_decay is not None else int(okd.needs_teacher)
    if not count:
        return None
    projections = [Projection(numbers(CLASSES, DIM, seed=10 + n)) for n in range(count)]
    return TeacherOutputs(list(numbers(count, ROWS, DIM, seed=9)), projections)


# recomputing, which is for float16, passes the projections through float32
@pytest.mark.parametrize(("way", "close"), [("gradient_in_forward", 1e-9), ("recompute", 1e-5)])
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_chunks_give_what_one_chunk_gives(name, options, way, close, monkeypatch):
    terms, expected = gradients(name, options, chunk_rows=0)
    if way == "recompute":
        monkeypatch.setattr(head, "_gradient_in_forward", head._recompute)
    chunked, found = gradients(name, options, CHUNK)
    torch.testing.assert_close(chunked, terms, rtol=close, atol=close)
    assert found.keys() == expected.keys()
    for key, grad in expected.items():
        torch.testing.assert_close(found[key], grad, rtol=10 * close, atol=close, msg=key)
