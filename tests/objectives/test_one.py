"""ONE against loops written from its equation."""

import pytest
from naive_losses import (
    affine,
    cases,
    compare,
    detached,
    kl,
    layer_norm,
    mix,
    ramp,
    relu,
    softmax,
    task_loss,
)


def reference(inputs, target, parameters, case):
    options = {"temperature": 3.0, "strength": 1.0, "detach": True, **case.options}
    temperature = options["temperature"]
    scale = options["strength"] * ramp(case.progress) * temperature**2
    terms = {"task": 0.0, "ensemble_task": 0.0, "distillation": 0.0}
    for row, true in enumerate(target):
        logits = [list(leaf[row]) for leaf in inputs["logits"]]
        for own in logits:
            terms["task"] += task_loss(own, true, case.smoothing)
        if case.leaves == 1:
            continue
        norm_weight, norm_bias, weight, bias = parameters.values()
        hidden = layer_norm(list(inputs["trunk"][row]), norm_weight, norm_bias)
        gate = softmax(relu(affine(weight, hidden, bias)))
        ensemble = mix(gate, logits)
        terms["ensemble_task"] += task_loss(ensemble, true, case.smoothing)
        teacher = softmax(ensemble, temperature)
        teacher = detached(teacher) if options["detach"] else teacher
        for own in logits:
            terms["distillation"] += scale * kl(teacher, softmax(own, temperature))
    return terms


CASES = cases({}, {"temperature": 1.0, "strength": 0.5, "detach": False}, progress=(1.0, 0.3))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_those_of_the_loops(case):
    compare("one", reference, case)


def test_the_trunk_s_features_are_asked_for():
    import torch

    from tsa_mt.objectives import build_objective

    okd = build_objective("one", "1(1,1)", 4, 5, trunk_dim=6)
    with pytest.raises(ValueError, match=r"'one' has a gate on the trunk's features; pass trunk="):
        okd([torch.zeros(2, 5)] * 2, torch.zeros(2).long())
