"""AHBF-OKD against loops that follow its training script level by level."""

import pytest
from naive_losses import (
    DIM,
    affine,
    cases,
    compare,
    kl,
    layer_norm,
    mix,
    ramp,
    relu,
    softmax,
    task_loss,
)

from tsa_mt.objectives.ahbf import FIRST_COMMIT, PAPER

HEAD = {
    "temperature": 3.0,
    "strength": 1.5 * 0.5,
    "lambda_teacher": 2.0,
    "lambda_own": 2.0,
    "lambda_branch": 4.0,
}


def reference(inputs, target, parameters, case):
    options = {**HEAD, **case.options}
    temperature = options["temperature"]
    scale = options["strength"] * ramp(case.progress) * temperature**2
    names = ("task", "teacher_task", "teacher", "own", "branch")
    terms = dict.fromkeys(names, 0.0)

    def divergence(teacher, student):
        return scale * kl(softmax(teacher, temperature), softmax(student, temperature))

    for row, true in enumerate(target):
        logits = [list(leaf[row]) for leaf in inputs["logits"]]
        features = [list(leaf[row]) for leaf in inputs["features"]]
        for own in logits:
            terms["task"] += task_loss(own, true, case.smoothing)
        below, feature = logits[0], features[0]
        for level in range(1, case.leaves):
            merge, gate = f"merges.{level - 1}", f"gates.{level - 1}.linear"
            together = affine(
                parameters[f"{merge}.linear.weight"],
                [*feature, *features[level]],
                parameters[f"{merge}.linear.bias"],
            )
            feature = layer_norm(
                together, parameters[f"{merge}.norm.weight"], parameters[f"{merge}.norm.bias"]
            )
            scores = affine(parameters[f"{gate}.weight"], feature, parameters[f"{gate}.bias"])
            fused = mix(softmax(relu(scores)), [below, logits[level]])
            terms["teacher_task"] += task_loss(fused, true, case.smoothing)
            terms["teacher"] += options["lambda_teacher"] * divergence(fused, below)
            terms["own"] += options["lambda_own"] * divergence(fused, logits[level])
            terms["branch"] += options["lambda_branch"] * divergence(logits[level], below)
            below = fused
    return terms


PRESETS = (FIRST_COMMIT, PAPER, {"temperature": 1.0, "lambda_own": 0.5})
CASES = cases({}, *PRESETS, progress=(1.0, 0.3))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_those_of_the_loops(case):
    compare("ahbf", reference, case)


def test_a_fusion_module_reads_two_features_and_gives_one():
    from naive_losses import Case

    okd = Case(leaves=3).objective("ahbf")
    assert [tuple(merge.linear.weight.shape) for merge in okd.merges] == [(DIM, 2 * DIM)] * 2
    assert [tuple(gate.linear.weight.shape) for gate in okd.gates] == [(2, DIM)] * 2
