"""KDCL's variants against loops written from their equations."""

import pytest
import torch
from naive_losses import cases, compare, detached, kl, mix, softmax, task_loss

from tsa_mt.objectives import build_objective


def naive(leaves, true):
    return min(leaves, key=lambda leaf: task_loss(leaf, true).item())


def min_logit(leaves, true):
    return [min(leaf[c] - leaf[true] for leaf in leaves) for c in range(len(leaves[0]))]


def linear(leaves, true):
    beyond = [[(logit - leaf[true]).detach() for logit in leaf] for leaf in leaves]
    every = [value for leaf in beyond for value in leaf]
    rate = 2 / (max(every) - min(every))
    weights = [torch.ones((), dtype=torch.float64) / len(leaves)] * len(leaves)
    for _ in range(60):
        soft = softmax(mix(weights, beyond))
        slopes = [sum(p * value for p, value in zip(soft, leaf, strict=True)) for leaf in beyond]
        moved = [w * (-rate * slope).exp() for w, slope in zip(weights, slopes, strict=True)]
        weights = [w / sum(moved) for w in moved]
    return mix(weights, beyond)


def reference_of(teacher):
    def reference(inputs, target, parameters, case):
        strength = case.options.get("strength", 1.0)
        temperature = case.options.get("temperature", 2.0)
        terms = {"task": 0.0, "distillation": 0.0}
        for row, true in enumerate(target):
            leaves = [list(leaf[row]) for leaf in inputs["logits"]]
            soft = softmax(detached(teacher(leaves, true)), temperature)
            for own in leaves:
                terms["task"] += task_loss(own, true, case.smoothing)
                divergence = kl(soft, softmax(own, temperature)) if len(leaves) > 1 else 0.0
                terms["distillation"] += strength * temperature**2 * divergence
        return terms

    return reference


REFERENCES = {
    "kdcl_naive": reference_of(naive),
    "kdcl_linear": reference_of(linear),
    "kdcl_min_logit": reference_of(min_logit),
}
CASES = cases({}, {"temperature": 1.0, "strength": 0.4})


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", REFERENCES)
def test_value_and_gradients_are_those_of_the_loops(name, case):
    compare(name, REFERENCES[name], case)


@pytest.mark.parametrize(("scale", "classes"), [(2, 6), (6, 40)])
def test_the_linear_teacher_is_as_good_as_a_search_over_the_simplex_finds(scale, classes):
    torch.manual_seed(0)
    okd = build_objective("kdcl_linear", "0(1,1,1)", 8, classes)
    logits = scale * torch.randn(3, 20, classes).double()
    target = torch.randint(classes, (20,))
    made = torch.nn.functional.cross_entropy(okd.teacher(logits, target), target, reduction="none")
    grid = [(a / 20, b / 20, (20 - a - b) / 20) for a in range(21) for b in range(21 - a)]
    best = torch.stack(
        [
            torch.nn.functional.cross_entropy(
                sum(w * z for w, z in zip(weights, logits, strict=True)), target, reduction="none"
            )
            for weights in grid
        ]
    ).amin(0)
    assert (made - best).max() < 0.02
    equal = torch.nn.functional.cross_entropy(logits.mean(0), target, reduction="none")
    assert (made <= equal + 1e-9).all()
