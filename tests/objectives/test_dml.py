"""DML, pair by pair and by the mean of the others, against loops written from its equations."""

import pytest
from naive_losses import cases, compare, detached, kl, mix, softmax, task_loss

PUBLISHED = {
    "dml": {"temperature": 1.0, "strength": 1.0, "detach": True},
    "dml_mean": {"temperature": 3.0, "strength": 1.0, "detach": False},
}


def imitated(name, others, temperature):
    """The distributions that a leaf imitates, given the other leaves' logits, with weights."""
    if name == "dml":
        return [(1 / len(others), softmax(z, temperature)) for z in others]
    mean = mix([1 / len(others)] * len(others), others)
    return [(1.0, softmax(mean, temperature))]


def reference_of(name):
    def reference(inputs, target, parameters, case):
        options = {**PUBLISHED[name], **case.options}
        temperature = options["temperature"]
        terms = {"task": 0.0, "distillation": 0.0}
        for row, true in enumerate(target):
            logits = [list(leaf[row]) for leaf in inputs["logits"]]
            for k, own in enumerate(logits):
                terms["task"] += task_loss(own, true, case.smoothing)
                others = [z for j, z in enumerate(logits) if j != k]
                others = [detached(z) for z in others] if options["detach"] else others
                for weight, probs in imitated(name, others, temperature) if others else []:
                    divergence = kl(probs, softmax(own, temperature))
                    terms["distillation"] += (
                        options["strength"] * weight * temperature**2 * divergence
                    )
        return terms

    return reference


REFERENCES = {name: reference_of(name) for name in PUBLISHED}
CASES = cases({}, {"temperature": 2.0, "strength": 0.5}, {"detach": True}, {"detach": False})


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", PUBLISHED)
def test_value_and_gradients_are_those_of_the_loops(name, case):
    compare(name, REFERENCES[name], case)


def test_two_leaves_at_temperature_one_are_the_original_pair_of_losses():
    """Each network's own loss, differentiated with respect to that network alone."""
    import torch
    from naive_losses import Case, evaluate

    case = Case(leaves=2)
    okd = case.objective("dml")
    inputs = case.inputs(okd)
    sum(evaluate(okd, inputs, case.target).values()).backward()
    for own, other in ((0, 1), (1, 0)):
        mine = inputs["logits"][own].detach().requires_grad_()
        log_probs = torch.log_softmax(mine, -1)
        fixed = torch.softmax(inputs["logits"][other].detach(), -1)
        loss = torch.nn.functional.nll_loss(log_probs, case.target, reduction="sum")
        loss = loss + torch.nn.functional.kl_div(log_probs, fixed, reduction="sum")
        loss.backward()
        torch.testing.assert_close(inputs["logits"].grad[own], mine.grad)
