"""What every registered objective keeps, whoever wrote it."""

import itertools

import pytest
import torch
from naive_losses import Case, evaluate

from tsa_mt.objectives import OBJECTIVES, Context, build_objective
from tsa_mt.objectives.base import Objective
from tsa_mt.objectives.consistency import passes_of
from tsa_mt.options import objective_fields

TAUGHT_ALONE = ("rdrop", "simcut", "mean_teacher")
"""Objectives that are more than the task loss with one leaf and without a frozen teacher."""
PEERS = [n for n, cls in OBJECTIVES.items() if not cls.needs_teacher and n not in TAUGHT_ALONE]
PASSES = [  # once, and twice where a second pass may join in
    (name, options)
    for name, cls in OBJECTIVES.items()
    for options in ({}, {"rdrop_weight": 1.5}, {"simcut_weight": 1.5})
    if not (options and (cls.needs_bridge or name in ("rdrop", "simcut")))
]
SWITCHED = [
    (name, {option: not default})
    for name, cls in OBJECTIVES.items()
    for option, default in vars(cls.Config()).items()
    if isinstance(default, bool)
]
DETACHED = (*("pcl", "sokd", "ensemble", "kdcl_naive", "kdcl_linear", "kdcl_min_logit"),)
DIFFERENTIABLE = [  # a detached target is no derivative of the value
    (name, options)
    for name, options in [*((name, {}) for name in OBJECTIVES), *SWITCHED]
    if name not in DETACHED and not {**vars(OBJECTIVES[name].Config()), **options}.get("detach")
]


def leaves_of(name):
    return 1 if OBJECTIVES[name].needs_bridge else 4


def make(name, dtype=torch.float64, **case):
    """An objective with its inputs and its case."""
    case = Case(**{"leaves": leaves_of(name), "progress": 0.5, **case})
    okd = case.objective(name).to(dtype)
    inputs = {
        key: value.detach().to(dtype).requires_grad_() for key, value in case.inputs(okd).items()
    }
    return okd, inputs, case


def total(terms):
    return sum(terms.values())


def run(okd, inputs, case):
    return evaluate(okd, inputs, case.target, case.progress)


@pytest.fixture(params=OBJECTIVES)
def name(request):
    return request.param


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", PEERS)
def test_with_one_leaf_it_is_the_plain_task_loss(name, smoothing):
    okd, inputs, case = make(name, leaves=1, smoothing=smoothing)
    plain = build_objective("independent", "2", 8, 5, label_smoothing=smoothing)
    expected = plain(list(inputs["logits"]), case.target)["task"]
    terms = run(okd, inputs, case)
    assert torch.equal(terms["task"], expected)
    assert [float(v) for t, v in terms.items() if t != "task"] == [0.0] * (len(terms) - 1)
    assert list(okd.parameters()) == []


def test_the_first_term_holds_the_leader_s_task_loss_by_its_weight(name):
    okd, inputs, case = make(name, smoothing=0.1)
    first = next(iter(run(okd, inputs, case).values()))
    (gradient,) = torch.autograd.grad(first, inputs["logits"])
    leader = inputs["logits"][0].detach().requires_grad_()
    plain = build_objective("independent", "2", 8, 5, label_smoothing=0.1)
    (own,) = torch.autograd.grad(plain([leader], case.target)["task"], leader)
    torch.testing.assert_close(gradient[0], okd.task_weight(Context()) * own)


def test_identical_branches_have_nothing_to_teach(name):
    okd, inputs, case = make(name, torch.float32)
    with torch.no_grad():
        for value in inputs.values():
            value.copy_(value[:1].expand_as(value) if value.dim() == 3 else value)
        if len(inputs["teachers"]):
            inputs["teachers"].copy_(inputs["logits"][:1].expand_as(inputs["teachers"]))
    for term, value in run(okd, inputs, case).items():
        # a task loss is no distillation, and PCL's feature teacher is no branch
        if not term.endswith("task") and (name, term) != ("pcl", "ensemble"):
            assert abs(value.item()) <= 1e-6 * case.rows, term


@pytest.mark.parametrize(("name", "options"), PASSES, ids=str)
def test_every_term_adds_up_over_rows(name, options):
    okd, inputs, case = make(name, rows=4, options=options)
    whole = run(okd, inputs, case)
    parts = []
    for rows in (slice(0, 1), slice(1, 4)):
        own = {key: value[:, rows] for key, value in inputs.items() if key != "trunk"}
        own["trunk"] = inputs["trunk"].unflatten(0, (passes_of(okd), 4))[:, rows].flatten(0, 1)
        parts.append(evaluate(okd, own, case.target[rows], case.progress))
    for term, value in whole.items():
        torch.testing.assert_close(value, parts[0][term] + parts[1][term])


def test_peers_may_change_places_unless_it_says_that_they_are_ordered(name):
    okd, inputs, case = make(name)
    reference = total(run(okd, inputs, case))
    leaves = range(okd.leaves)
    moved = []
    for order in itertools.permutations(leaves[1:]):
        index = [0, *order]
        index = index + [okd.leaves + leaf for leaf in index] if passes_of(okd) == 2 else index
        changed = dict(inputs)
        changed["logits"] = inputs["logits"][index]
        if len(inputs["features"]) == len(index):
            changed["features"] = inputs["features"][index]
        if okd.average_decay is not None:
            changed["teachers"] = inputs["teachers"][index]
        loss = total(run(okd, changed, case))
        moved.append(not torch.isclose(loss, reference, rtol=1e-9))
    assert any(moved) == okd.ordered


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in OBJECTIVES), *SWITCHED], ids=str
)
def test_every_term_s_gradient_reaches_what_is_declared_and_nothing_else(name, options):
    okd, inputs, case = make(name, options=options)
    terms = run(okd, inputs, case)
    assert terms.keys() == okd.gradients.keys()
    for term, value in terms.items():
        wanted = [inputs["logits"], inputs["teachers"], *okd.parameters()]
        grads = torch.autograd.grad(value, wanted, retain_graph=True, allow_unused=True)
        reached = {word for word, hit in reached_by(okd, grads).items() if hit}
        peerless = len(okd.tree.leaves) == 1
        declared = set(okd.gradients[term]) - ({"peers"} if peerless else set())
        assert reached == declared, term


def reached_by(okd, grads):
    """Which of the declared words a set of gradients amounts to."""
    logits, teachers, *own = grads
    hit = [False] * okd.leaves if logits is None else [bool(g.any()) for g in logits]
    trained = any(grad is not None and bool(grad.any()) for grad in own)
    projected = {id(p) for extra in okd.projections for p in (extra.weight, extra.bias)}
    fused = trained and any(id(p) in projected for p in okd.parameters())
    peers = hit[1 : okd.leaves - okd.needs_bridge]
    assert teachers is None or not teachers.any()
    return {
        "leader": hit[0],
        "peers": any(peers),
        "bridge": okd.needs_bridge and hit[-1],
        "gates": trained and not fused,
        "fused": fused,
    }


def test_all_its_parameters_get_a_gradient(name):
    okd, inputs, case = make(name, rows=16)
    total(run(okd, inputs, case)).backward()
    for key, parameter in okd.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("name", "options"), PASSES, ids=str)
def test_extreme_logits_stay_finite(name, dtype, options):
    okd, inputs, case = make(name, dtype, options=options)
    with torch.no_grad():
        for key in ("logits", "teachers"):
            inputs[key].copy_(1e4 * inputs[key].sign())
    terms = run(okd, inputs, case)
    total(terms).backward()
    assert all(value.isfinite() for value in terms.values()), terms
    leaves = [value.grad for value in inputs.values() if value.grad is not None]
    assert all(grad.isfinite().all() for grad in leaves)


@pytest.mark.parametrize(("name", "options"), DIFFERENTIABLE, ids=str)
def test_first_derivatives_pass_gradcheck(name, options):
    okd, inputs, case = make(name, rows=2, leaves=3, options={"rdrop_weight": 0.0, **options})
    keys = [key for key in inputs if key != "teachers"]
    held = dict(inputs)

    def loss(*values):
        return total(run(okd, {**held, **dict(zip(keys, values, strict=True))}, case))

    assert torch.autograd.gradcheck(loss, [inputs[key] for key in keys])


def test_options_of_the_same_name_mean_the_same_and_have_flags(name):
    helps = {}
    for cls in OBJECTIVES.values():
        for key, option in cls.Config.__dataclass_fields__.items():
            helps.setdefault(key, set()).add((option.metadata["help"], option.type))
    flags = {flag for flag, _, _ in objective_fields()}
    for key in OBJECTIVES[name].Config.__dataclass_fields__:
        assert len(helps[key]) == 1, helps[key]
        assert f"kd_{key}" in flags


def test_its_documentation_has_paper_year_formula_and_source(name):
    import re
    import sys

    text = sys.modules[OBJECTIVES[name].__module__].__doc__
    assert re.search(r"\b(19|20)\d\d\b", text), "no year"
    assert "L = " in text or "Loss: ``" in text, "no formula"
    assert re.search(r"https://\S+", text), "no source"
    assert "etached" in text and re.search(r"[Ss]um", text), "no word on gradients or sums"


def test_it_is_an_objective_with_a_tree_of_its_own(name):
    from tsa_mt.tree import Tree

    cls = OBJECTIVES[name]
    assert issubclass(cls, Objective) and cls.name == name
    assert Tree.preset(cls.default_tree, 6).depth == 6
