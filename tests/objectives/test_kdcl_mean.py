"""The third party's form of KDCL against loops written from its equation."""

import logging

import pytest
from naive_losses import cases, compare, detached, kl, mix, softmax, task_loss


def reference(inputs, target, parameters, case):
    options = {"temperature": 4.0, "weight": 0.5, "detach": True, **case.options}
    temperature = options["temperature"]
    weight = options["weight"] if case.leaves > 1 else 0.0
    terms = {"task": 0.0, "distillation": 0.0}
    for row, true in enumerate(target):
        logits = [list(leaf[row]) for leaf in inputs["logits"]]
        mean = mix([1 / case.leaves] * case.leaves, logits)
        mean = detached(mean) if options["detach"] else mean
        for own in logits:
            terms["task"] += (1 - weight) * task_loss(own, true, case.smoothing)
            divergence = kl(softmax(mean, temperature), softmax(own, temperature))
            terms["distillation"] += weight * temperature**2 * divergence
    return terms


CASES = cases({}, {"temperature": 1.0, "weight": 0.2}, {"detach": False})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_those_of_the_loops(case):
    compare("kdcl_mean", reference, case)


def test_the_old_name_still_works_and_says_what_it_is_called_now(caplog):
    from tsa_mt.objectives import build_objective, registry

    registry._present_name.cache_clear()
    with caplog.at_level(logging.WARNING, logger="tsa_mt.objectives.registry"):
        okd = build_objective("kdcl", "0(1,1)", 8, 5, weight=0.2)
    assert (okd.name, okd.weight) == ("kdcl_mean", 0.2)
    assert "objective 'kdcl' is now called 'kdcl_mean'" in caplog.text
    assert "kdcl_naive, kdcl_linear and kdcl_min_logit" in caplog.text
