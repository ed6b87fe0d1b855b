"""What all objectives share: registry, options, the standalone call and its complaints."""

import dataclasses

import pytest
import torch

from tsa_mt.objectives import (
    OBJECTIVES,
    Objective,
    ObjectiveConfig,
    Option,
    build_objective,
    check_options,
    find_objective,
    register_objective,
)
from tsa_mt.tree import Tree

TARGET = torch.tensor([0, 9])


def test_the_example_of_the_documentation_runs():
    torch.manual_seed(0)
    trunk = torch.nn.Linear(32, 64)
    heads = torch.nn.ModuleList(torch.nn.Linear(64, 10) for _ in range(4))
    okd = build_objective("tsa", tree="0(1,1,1,1)", feature_dim=64, num_classes=10)
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters(), *okd.parameters()], 0.1)
    inputs, target = torch.randn(16, 32), torch.randint(10, (16,))
    for _ in range(20):
        hidden = torch.relu(trunk(inputs))
        terms = okd([head(hidden) for head in heads], target)
        loss = sum(terms.values()) / len(target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print({name: round(value.item(), 3) for name, value in terms.items()})

    assert isinstance(okd, torch.nn.Module)
    assert list(terms) == ["task", "distillation"]
    assert loss.item() < 0.9 * 4 * 0.7 * 2.3026  # four leaves started at 70 % of log 10 each


def test_an_objective_takes_a_tree_or_its_notation():
    tree = Tree.parse("1(1,1)")
    for given in (tree, "1(1,1)"):
        okd = build_objective("tsa", given, feature_dim=4, num_classes=10)
        assert (okd.tree, okd.leaves) == (tree, 2)


def test_label_smoothing_is_off_unless_given():
    logits = [torch.randn(2, 10, generator=torch.Generator().manual_seed(0))]
    plain = build_objective("independent", "1", 4, 10)(logits, TARGET)["task"]
    smooth = build_objective("independent", "1", 4, 10, label_smoothing=0.1)(logits, TARGET)["task"]
    cross_entropy = torch.nn.functional.cross_entropy
    torch.testing.assert_close(plain, cross_entropy(logits[0], TARGET, reduction="sum"))
    assert not torch.isclose(plain, smooth)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_option_has_a_published_default_and_a_help_text(name):
    for option in dataclasses.fields(OBJECTIVES[name].Config):
        assert option.default is not dataclasses.MISSING
        assert option.metadata["help"]


# --- complaints ---------------------------------------------------------------------------------


def test_an_unknown_objective_is_answered_with_the_known_ones():
    message = f"unknown objective 'tas'; choose one of {', '.join(OBJECTIVES)}"
    with pytest.raises(ValueError, match=message):
        build_objective("tas", "1", 4, 10)
    with pytest.raises(ValueError, match="unknown objective"):
        find_objective("")


def test_an_option_of_another_objective_names_those_that_have_it():
    message = r"objective 'independent' has no option 'detach'; only .*tsa.* ha(s|ve) it; its"
    with pytest.raises(ValueError, match=message):
        build_objective("independent", "1", 4, 10, detach=True)


def test_an_option_that_nobody_has_is_answered_with_the_objective_s_own():
    message = "objective 'tsa' has no option 'alpha'; its options are: .*weight, temperature, det"
    with pytest.raises(ValueError, match=message):
        check_options("tsa", {"alpha": 1})


def test_a_malformed_tree_is_explained():
    with pytest.raises(ValueError, match="malformed tree: column 4"):
        build_objective("tsa", "0(1", 4, 10)


@pytest.mark.parametrize("given", [1, 3])
def test_the_wrong_number_of_leaves_is_named(given):
    okd = build_objective("tsa", "0(1,1)", 4, 10)
    message = rf"'tsa' got logits of {given} leaves, but tree '0\(1,1\)' has 2; pass one"
    with pytest.raises(ValueError, match=message):
        okd([torch.zeros(2, 10)] * given, TARGET)


@pytest.mark.parametrize("shape", [(2, 9), (3, 10), (2, 1, 10)])
def test_the_wrong_shape_is_named(shape):
    okd = build_objective("tsa", "0(1,1)", 4, 10)
    with pytest.raises(ValueError, match="logits of leaf 1 have shape") as caught:
        okd([torch.zeros(2, 10), torch.zeros(shape)], TARGET)
    assert f"shape {shape}, expected (2, 10)" in str(caught.value)


@pytest.mark.parametrize("target", [torch.zeros(2, 10), torch.zeros(2, 1, dtype=torch.long)])
def test_a_target_that_is_no_list_of_classes_is_refused(target):
    okd = build_objective("tsa", "0(1,1)", 4, 10)
    with pytest.raises(ValueError, match=r"target has shape .* \(rows,\) class indices"):
        okd([torch.zeros(2, 10)] * 2, target)


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_label_smoothing_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=rf"label_smoothing is {value}; it must be in \[0, 1\)"):
        build_objective("tsa", "0(1,1)", 4, 10, label_smoothing=value)


# --- the registry -------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr("tsa_mt.objectives.registry.OBJECTIVES", dict(OBJECTIVES))


def test_a_class_of_one_s_own_is_registered_and_built(registry):
    @register_objective("mine")
    class Mine(Objective):
        strength = Option.weight(2.0, "how much")

    assert find_objective("mine") is Mine
    assert build_objective("mine", "1", 4, 10).strength == 2.0
    okd = build_objective("mine", "1", 4, 10, strength=3.0)
    assert (okd.strength, okd.config.strength) == (3.0, 3.0)
    with pytest.raises(AttributeError, match="option 'strength' is fixed; build another objective"):
        okd.strength = 4.0
    with pytest.raises(ValueError, match="'strength' is -1; it must be 0 or more and finite"):
        build_objective("mine", "1", 4, 10, strength=-1)


def test_a_subclass_keeps_the_options_it_does_not_change_in_their_order():
    class First(Objective):
        weight = Option.share(0.5)
        temperature = Option.temperature(1.0)

    class Second(First):
        temperature = Option.temperature(3.0)
        reverse = Option(False, "the other way round")

    common = vars(ObjectiveConfig())
    own = {"weight": 0.5, "temperature": 3.0, "reverse": False}
    assert vars(Second.Config()) == {**common, **own}
    assert list(vars(Second.Config())) == [*common, *own]
    assert vars(First.Config())["temperature"] == 1.0


def test_two_classes_of_one_name_are_refused(registry):
    with pytest.raises(ValueError, match="objective 'tsa' is registered twice: .*TSA.*and.*Other"):

        @register_objective("tsa")
        class Other(Objective):
            pass


def test_a_base_class_without_terms_cannot_be_evaluated():
    okd = Objective(Tree.parse("1"), 4, 10)
    with pytest.raises(NotImplementedError, match=r"Objective does not define terms\(rows\)"):
        okd([torch.zeros(2, 10)], TARGET)
