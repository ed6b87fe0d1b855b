"""OKDDip against loops written from the two-level loss of its paper and code."""

import pytest
from naive_losses import affine, cases, compare, detached, kl, mix, ramp, softmax, task_loss

OPTIONS = (
    {},
    {"temperature": 1.0, "strength": 0.5},
    {"mix_predictions": True},
    {"detach": True, "temperature": 2.0},
    {"detach": True, "mix_predictions": True},
)


def reference(inputs, target, parameters, case):
    options = {"temperature": 3.0, "strength": 1.0, "mix_predictions": False, "detach": False}
    options.update(case.options)
    temperature = options["temperature"]
    scale = options["strength"] * ramp(case.progress) * temperature**2
    terms = {"task": 0.0, "peers": 0.0, "leader": 0.0}
    peers = range(1, case.leaves)

    def target_of(weights, row):
        logits = [list(inputs["logits"][b][row]) for b in peers]
        if options["mix_predictions"]:
            probs = [softmax(z, temperature) for z in logits]
            probs = [detached(p) for p in probs] if options["detach"] else probs
            return mix(weights, probs)
        logits = [detached(z) for z in logits] if options["detach"] else logits
        return softmax(mix(weights, logits), temperature)

    for row, true in enumerate(target):
        for leaf in range(case.leaves):
            terms["task"] += task_loss(inputs["logits"][leaf][row], true, case.smoothing)
        if case.leaves == 1:
            continue
        queries = [affine(parameters["query.weight"], inputs["features"][a][row]) for a in peers]
        keys = [affine(parameters["key.weight"], inputs["features"][b][row]) for b in peers]
        for a in peers:
            scores = [sum(q * k for q, k in zip(queries[a - 1], key, strict=True)) for key in keys]
            imitated = target_of(softmax(scores), row)
            own = softmax(inputs["logits"][a][row], temperature)
            terms["peers"] += scale * kl(imitated, own)
        mean = target_of([1 / len(peers)] * len(peers), row)
        leader = softmax(inputs["logits"][0][row], temperature)
        terms["leader"] += scale * kl(mean, leader)
    return terms


CASES = cases(*OPTIONS, progress=(1.0, 0.3))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_those_of_the_loops(case):
    compare("okddip", reference, case)


def test_a_single_peer_imitates_itself_and_teaches_the_leader():
    from naive_losses import Case, evaluate

    case = Case(leaves=2)
    okd = case.objective("okddip")
    terms = evaluate(okd, case.inputs(okd), case.target)
    assert abs(terms["peers"].item()) < 1e-12
    assert terms["leader"].item() > 0.1


def test_features_are_asked_for():
    from tsa_mt.objectives import build_objective

    okd = build_objective("okddip", "0(1,1)", 4, 5)
    logits = [okd.query.weight.new_zeros(2, 5)] * 2
    with pytest.raises(ValueError, match=r"'okddip' fuses the features of 2 leaves, got 0; pass"):
        okd(logits, logits[0].new_zeros(2).long())
