"""R-Drop against loops written from its equation, alone and on top of other objectives."""

import pytest
import torch
from naive_losses import Case, cases, compare, evaluate, kl, softmax, task_loss

from tsa_mt.objectives.consistency import passes_of


def reference(inputs, target, parameters, case):
    weight = case.options.get("rdrop_weight", 5.0)
    terms = {"task": 0.0, "rdrop": 0.0}
    for row, true in enumerate(target):
        for leaf in range(case.leaves):
            first, second = (list(inputs["logits"][leaf + case.leaves * n][row]) for n in (0, 1))
            for own in (first, second):
                terms["task"] += task_loss(own, true, case.smoothing)
            p, q = softmax(first), softmax(second)
            terms["rdrop"] += weight / 2 * (kl(p, q) + kl(q, p))
    return terms


CASES = cases({}, {"rdrop_weight": 0.7})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_those_of_the_loops(case):
    compare("rdrop", reference, case)


@pytest.mark.parametrize("name", ["tsa", "okddip", "ahbf", "one", "pcl"])
def test_on_top_of_another_objective_its_terms_are_those_of_both_passes(name):
    case = Case(options={"rdrop_weight": 2.0}, progress=0.5)
    okd, alone = case.objective(name), Case(progress=0.5).objective(name)
    inputs = case.inputs(okd)
    terms = evaluate(okd, inputs, case.target, 0.5)
    halves = {key: value.chunk(2) for key, value in inputs.items() if key != "teachers"}
    passes = [
        evaluate(
            alone,
            {**{key: value[n] for key, value in halves.items()}, "teachers": inputs["teachers"]},
            case.target,
            0.5,
        )
        for n in (0, 1)
    ]
    for term in passes[0]:
        torch.testing.assert_close(terms[term], passes[0][term] + passes[1][term])
    expected = reference({"logits": inputs["logits"]}, case.target.tolist(), {}, case)
    torch.testing.assert_close(terms["rdrop"], expected["rdrop"])


def test_switched_off_it_is_the_plain_task_loss_of_one_pass():
    case = Case(leaves=1, options={"rdrop_weight": 0.0})
    okd = case.objective("rdrop")
    assert passes_of(okd) == 1
    inputs = case.inputs(okd)
    terms = evaluate(okd, inputs, case.target)
    plain = torch.nn.functional.cross_entropy(inputs["logits"][0], case.target, reduction="sum")
    assert list(terms) == ["task"]
    torch.testing.assert_close(terms["task"], plain)


def test_the_logits_of_both_passes_are_asked_for():
    case = Case(leaves=2)
    okd = case.objective("rdrop")
    with pytest.raises(ValueError, match="tensor per leaf, for pass 1 and then for pass 2"):
        okd([torch.zeros(3, 5)] * 2, case.target)
