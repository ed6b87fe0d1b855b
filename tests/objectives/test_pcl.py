"""PCL against loops written from its equation."""

import pytest
import torch
from naive_losses import Case, affine, cases, compare, detached, kl, ramp, softmax, task_loss


def reference(inputs, target, parameters, case):
    options = {"temperature": 3.0, "strength": 1.0, **case.options}
    temperature = options["temperature"]
    scale = options["strength"] * ramp(case.progress) * temperature**2
    terms = dict.fromkeys(("task", "ensemble_task", "ensemble", "averaged_peers"), 0.0)
    for row, true in enumerate(target):
        logits = [list(leaf[row]) for leaf in inputs["logits"]]
        for own in logits:
            terms["task"] += task_loss(own, true, case.smoothing)
        if case.leaves == 1:
            continue
        together = [x for leaf in inputs["features"] for x in leaf[row]]
        fused = affine(parameters["classifier.weight"], together, parameters["classifier.bias"])
        terms["ensemble_task"] += task_loss(fused, true, case.smoothing)
        teacher = detached(softmax(fused, temperature))
        averaged = [detached(softmax(list(leaf[row]), temperature)) for leaf in inputs["teachers"]]
        for k, own in enumerate(logits):
            probs = softmax(own, temperature)
            terms["ensemble"] += scale * kl(teacher, probs)
            for j, peer in enumerate(averaged):
                if j != k:
                    terms["averaged_peers"] += scale / (case.leaves - 1) * kl(peer, probs)
    return terms


CASES = cases({}, {"temperature": 1.0, "strength": 0.5}, progress=(1.0, 0.3))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_those_of_the_loops(case):
    compare("pcl", reference, case)


def test_the_averaged_peers_logits_are_asked_for():
    case = Case(leaves=2)
    okd = case.objective("pcl")
    with pytest.raises(ValueError, match="needs the logits of 2 averaged leaves, got 0; pass"):
        okd([torch.zeros(3, 5)] * 2, case.target, features=[torch.zeros(3, 8)] * 2)
