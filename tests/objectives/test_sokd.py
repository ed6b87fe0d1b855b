"""Semi-online distillation: value and gradient routing against loops in float64."""

import pytest
import torch

from tsa_mt.objectives import build_objective

ROWS, CLASSES = 5, 7
WEIGHTS = {
    "student_task_weight": 0.5,
    "student_bridge_weight": 1.5,
    "bridge_task_weight": 0.25,
    "bridge_teacher_weight": 2.0,
    "bridge_student_weight": 0.75,
}

PUBLISHED = dict.fromkeys(WEIGHTS, 1.0)


def total(terms):
    return sum(terms.values())


def softmax(row, temperature):
    exponentials = [torch.exp(value / temperature) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def smoothed_loss(row, true, smoothing):
    loss = 0.0
    for c, p in enumerate(softmax(row, 1.0)):
        share = 1.0 - smoothing if c == true else smoothing / (len(row) - 1)
        loss = loss - share * torch.log(p)
    return loss


def divergence(target, other, temperature):
    """KL(target || other) of one row, its target without gradient."""
    pairs = zip(softmax(target.detach(), temperature), softmax(other, temperature), strict=True)
    return sum(p * torch.log(p / q) for p, q in pairs)


def reference(student, bridge, teacher, target, temperature, smoothing, weights):
    """The five terms of METHODS, row by row."""
    loss = torch.zeros((), dtype=torch.float64)
    scale = temperature**2
    for i in range(len(target)):
        s, b, t, true = student[i], bridge[i], teacher[i], int(target[i])
        loss = loss + weights["student_task_weight"] * smoothed_loss(s, true, smoothing)
        loss = loss + weights["student_bridge_weight"] * scale * divergence(b, s, temperature)
        loss = loss + weights["bridge_task_weight"] * smoothed_loss(b, true, smoothing)
        loss = loss + weights["bridge_teacher_weight"] * scale * divergence(t, b, temperature)
        loss = loss + weights["bridge_student_weight"] * scale * divergence(s, b, temperature)
    return loss


def draw(rows=ROWS, seed=0):
    torch.manual_seed(seed)
    logits = [2 * torch.randn(rows, CLASSES, dtype=torch.float64) for _ in range(3)]
    return [each.requires_grad_() for each in logits], torch.randint(CLASSES, (rows,))


def build(smoothing=0.1, tree="1", **options):
    return build_objective("sokd", tree, 4, CLASSES, label_smoothing=smoothing, **options)


@pytest.mark.parametrize("weights", [PUBLISHED, WEIGHTS], ids=["published", "own"])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_value_and_gradients_are_those_of_the_loops(temperature, weights):
    (student, bridge, teacher), target = draw()
    options = {} if weights is not WEIGHTS else weights
    objective = build(temperature=temperature, **options)
    loss = total(objective([student, bridge], target, teacher_logits=[teacher]))
    expected = reference(student, bridge, teacher, target, temperature, 0.1, weights)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    ours = torch.autograd.grad(loss, [student, bridge])
    theirs = torch.autograd.grad(expected, [student, bridge])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-10)


def test_the_published_temperature_is_four():
    (student, bridge, teacher), target = draw()
    terms = build()([student, bridge], target, teacher_logits=[teacher])
    expected = reference(student, bridge, teacher, target, 4.0, 0.1, PUBLISHED)
    torch.testing.assert_close(total(terms), expected)


@pytest.mark.parametrize(
    ("term", "learns"),
    [
        ("student_task", "student"),
        ("student_bridge", "student"),
        ("bridge_task", "bridge"),
        ("bridge_teacher", "bridge"),
        ("bridge_student", "bridge"),
    ],
)
def test_each_term_moves_only_the_one_that_learns(term, learns):
    (student, bridge, teacher), target = draw()
    loss = build()([student, bridge], target, teacher_logits=[teacher])[term]
    gradients = dict(
        zip(
            ("student", "bridge", "teacher"),
            torch.autograd.grad(loss, [student, bridge, teacher], allow_unused=True),
            strict=True,
        )
    )
    assert gradients.pop(learns).abs().max() > 1e-3
    assert all(g is None or not g.any() for g in gradients.values())


def test_the_student_does_not_see_the_teacher():
    (student, bridge, teacher), target = draw()
    losses = [
        total(build()([student, bridge], target, teacher_logits=[z])) for z in (teacher, -teacher)
    ]
    first, second = (torch.autograd.grad(loss, student)[0] for loss in losses)
    torch.testing.assert_close(first, second, rtol=0.0, atol=0.0)


def test_equal_branches_have_no_distillation():
    (student, _, _), target = draw()
    logits = student.detach().float()
    terms = build()([logits, logits.clone()], target, teacher_logits=[logits.clone()])
    assert all(abs(float(v)) < 1e-6 for k, v in terms.items() if not k.endswith("task"))


def test_a_tree_with_several_leaves_is_refused():
    with pytest.raises(ValueError, match=r"one student and a bridge, but tree '1\(1,1\)' has 2"):
        build(tree="1(1,1)")


def test_two_dropout_passes_are_refused():
    with pytest.raises(ValueError, match="'sokd' has no 'rdrop_weight', got 1.0"):
        build(rdrop_weight=1.0)


def test_logits_of_the_bridge_are_asked_for():
    (student, _, teacher), target = draw()
    with pytest.raises(ValueError, match="of 1 leaves, but tree .1. has 2 with the bridge"):
        build()([student], target, teacher_logits=[teacher])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bridge_init": "zero"}, "'bridge_init' is 'zero'; it must be teacher or random"),
        ({"bridge_layers": -1}, "'bridge_layers' is -1; it must be 0 or more"),
        ({"bridge_task_weight": -1.0}, "'bridge_task_weight' is -1.0; it must be 0 or more"),
        ({"temperature": -1.0}, "'temperature' is -1.0; it must be greater than 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
