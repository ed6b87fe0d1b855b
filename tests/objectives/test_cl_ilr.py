"""CL-ILR against loops written from its equation, and the rescaled gradient of what is shared."""

import pytest
from naive_losses import cases, compare, detached, kl, mix, ramp, softmax, task_loss


def reference(inputs, target, parameters, case):
    options = {"temperature": 3.0, "strength": 1.0, "detach": False, **case.options}
    temperature = options["temperature"]
    scale = options["strength"] * ramp(case.progress) * temperature**2
    terms = {"task": 0.0, "distillation": 0.0}
    for row, true in enumerate(target):
        logits = [list(leaf[row]) for leaf in inputs["logits"]]
        for k, own in enumerate(logits):
            terms["task"] += task_loss(own, true, case.smoothing)
            others = [z for j, z in enumerate(logits) if j != k]
            if not others:
                continue
            mean = mix([1 / len(others)] * len(others), others)
            mean = detached(mean) if options["detach"] else mean
            divergence = kl(softmax(mean, temperature), softmax(own, temperature))
            terms["distillation"] += scale * divergence
    return terms


CASES = cases({}, {"temperature": 1.0, "strength": 0.5, "detach": True}, progress=(1.0, 0.0, 0.6))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_those_of_the_loops(case):
    compare("cl_ilr", reference, case)
