"""Which objectives have a closed form, and that it is what their terms say."""

import pytest
import torch

from tsa_mt.objectives import Rows, build_objective
from tsa_mt.objectives.mutual import mutual_function, mutual_of
from tsa_mt.objectives.rows import Context
from tsa_mt.objectives.tsa import TSA

CLASSES, ROWS = 7, 5
CASES = {
    "tsa": ("tsa", "0(1,1,1)", {}),
    "tsa, detached": ("tsa", "0(1,1,1)", {"detach": True, "temperature": 1.5}),
    "tsa, one leaf": ("tsa", "1", {}),
    "independent": ("independent", "0(1,1)", {}),
    "dml": ("dml", "0(1,1,1)", {}),
    "rdrop on a chain": ("rdrop", "1", {}),
}


def build(name, tree, options):
    return build_objective(name, tree, feature_dim=4, num_classes=CLASSES, **options)


@pytest.mark.parametrize("case", CASES)
def test_the_closed_form_is_what_the_terms_say(case):
    objective = build(*CASES[case])
    leaves = objective.leaves * getattr(objective, "passes", 1)
    torch.manual_seed(0)
    logits = torch.randn(leaves, ROWS, CLASSES, dtype=torch.float64, requires_grad=True)
    rows = Rows(logits, torch.randint(0, CLASSES, (ROWS,)), context=Context(1.0, 0.1))
    terms = objective.terms(rows)
    (gradient,) = torch.autograd.grad(sum(terms.values()), logits)
    sums = mutual_function(mutual_of(objective), 0.1)(logits.detach(), rows.targets)
    found = dict(zip(objective.gradients, (sums.task, sums.divergence)))
    assert found.keys() == terms.keys()
    for name, term in terms.items():
        torch.testing.assert_close(found[name], term.detach())
    torch.testing.assert_close(sums.gradient, gradient)


@pytest.mark.parametrize(
    "name, tree, options",
    [
        ("dml_mean", "0(1,1)", {}),
        ("okddip", "0(1,1,1)", {}),
        ("tsa", "0(1,1)", {"rdrop_weight": 1.0}),
        ("rdrop", "0(1,1)", {}),
    ],
)
def test_other_formulas_have_none(name, tree, options):
    assert mutual_of(build(name, tree, options)) is None


def test_a_subclass_with_a_formula_of_its_own_does_not_inherit_one():
    class Sharper(TSA):
        def terms(self, rows):
            return {name: 2 * term for name, term in super().terms(rows).items()}

    class Renamed(TSA):
        default_tree = "fork"

    options = {"tree": build("tsa", "0(1,1)", {}).tree, "feature_dim": 4, "num_classes": CLASSES}
    assert mutual_of(Sharper(**options)) is None
    assert mutual_of(Renamed(**options)) is not None
