"""The ensemble, the moving average and the late start against loops in float64."""

import pytest
import torch
from naive_losses import (
    Case,
    cases,
    compare,
    detached,
    evaluate,
    kl,
    mix,
    ramp,
    softmax,
    task_loss,
)

from tsa_mt.objectives import OBJECTIVES, Context, Rows, build_objective
from tsa_mt.objectives.ramp import progress
from tsa_mt.objectives.rows import Predictions


def ensemble(inputs, target, parameters, case):
    strength, temperature = (case.options.get(k, 1.0) for k in ("strength", "temperature"))
    weight = strength * ramp(case.progress) * temperature**2
    terms = {"task": 0.0, "distillation": 0.0}
    for row, true in enumerate(target):
        leaves = [list(inputs["logits"][leaf][row]) for leaf in range(case.leaves)]
        soft = [softmax(leaf, temperature) for leaf in leaves]
        mean = detached(mix([1 / case.leaves] * case.leaves, soft))
        taught = soft[:1] if case.options.get("leader_alone") else soft
        terms["task"] += sum(task_loss(leaf, true, case.smoothing) for leaf in leaves)
        if case.leaves > 1:
            terms["distillation"] += weight * sum(kl(mean, own) for own in taught)
    return terms


def mean_teacher(inputs, target, parameters, case):
    strength, temperature = (case.options.get(k, 1.0) for k in ("strength", "temperature"))
    weight = strength * ramp(case.progress) * temperature**2
    terms = {"task": 0.0, "distillation": 0.0}
    for row, true in enumerate(target):
        for leaf in range(case.leaves):
            own = list(inputs["logits"][leaf][row])
            teacher = 0 if case.options.get("leader_teaches") else leaf
            average = softmax(detached(list(inputs["teachers"][teacher][row])), temperature)
            terms["task"] += task_loss(own, true, case.smoothing)
            terms["distillation"] += weight * kl(average, softmax(own, temperature))
    return terms


REFERENCES = {"ensemble": ensemble, "mean_teacher": mean_teacher}
OPTIONS = ({}, {"strength": 0.6, "temperature": 2.0}, {"temperature": 1.5, "leader_alone": True})
TAUGHT = ({}, {"strength": 0.6, "temperature": 2.0}, {"temperature": 1.5, "leader_teaches": True})


@pytest.mark.parametrize("case", cases(*OPTIONS, progress=(1.0, 0.4)), ids=str)
def test_the_ensemble_s_value_and_gradients_are_those_of_the_loops(case):
    compare("ensemble", ensemble, case)


@pytest.mark.parametrize("case", cases(*TAUGHT, progress=(1.0, 0.4)), ids=str)
def test_the_mean_teacher_s_value_and_gradients_are_those_of_the_loops(case):
    compare("mean_teacher", mean_teacher, case)


def late_terms(name, started, leaves=4):
    """Terms of an objective that starts late, and of one that does not."""
    case = Case(leaves=1 if OBJECTIVES[name].needs_bridge else leaves, options={"start": 10})
    okd, plain = case.objective(name), Case(leaves=case.leaves).objective(name)
    plain.load_state_dict(okd.state_dict())
    found = []
    for each in (okd, plain):
        inputs = case.inputs(each)
        outputs = torch.stack(list(inputs["logits"]))
        teachers = Predictions(inputs["teachers"]) if len(inputs["teachers"]) else None
        gates = {}
        if name == "one":
            gates["ensemble"] = torch.full((case.rows, 1, leaves), 1 / leaves).double()
        context = Context(started=started)
        found.append(each.terms(Rows(outputs, case.target, [], gates, teachers, context)))
    return found


@pytest.mark.parametrize("name", ["tsa", "ensemble", "mean_teacher", "kd", "dml", "one", "sokd"])
def test_before_the_start_the_leaves_learn_from_the_labels_alone(name):
    late, plain = late_terms(name, started=False)
    assert late.keys() == plain.keys()
    for term, value in late.items():
        assert term.endswith("task") or value == 0
    if "task" in late:
        case = Case(leaves=4, options={"start": 10})
        logits = case.inputs(case.objective(name))["logits"]
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), case.target.repeat(4), reduction="sum"
        )
        torch.testing.assert_close(late["task"], losses)


@pytest.mark.parametrize("name", ["tsa", "one", "sokd"])
def test_after_the_start_nothing_is_left_of_it(name):
    late, plain = late_terms(name, started=True)
    for term, value in plain.items():
        torch.testing.assert_close(late[term], value)


def test_a_ramp_begins_at_the_start():
    okd = build_objective("ensemble", "0(1,1)", 8, 5, start=100, rampup_updates=50)
    assert [progress(okd, n, 0) for n in (0, 100, 125, 150, 300)] == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_a_late_start_goes_with_several_passes():
    case = Case(options={"start": 5, "rdrop_weight": 1.0})
    okd = case.objective("tsa")
    terms = evaluate(okd, case.inputs(okd), case.target)
    assert set(terms) == {"task", "distillation", "rdrop"} and terms["distillation"] > 0
