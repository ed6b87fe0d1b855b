"""Word-level distillation: values and gradients against loops in float64, and its teachers."""

import math

import pytest
import torch

from tsa_mt.objectives import build_objective

ROWS, CLASSES = 5, 7


def total(terms):
    return sum(terms.values())


def softmax(row, temperature):
    exponentials = [torch.exp(value / temperature) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def smoothed_loss(row, true, smoothing):
    probs = softmax(row, 1.0)
    loss = 0.0
    for c, p in enumerate(probs):
        share = 1.0 - smoothing if c == true else smoothing / (len(probs) - 1)
        loss = loss - share * torch.log(p)
    return loss


def divergence(target, other):
    return sum(p * torch.log(p / q) for p, q in zip(target, other, strict=True))


def reference(students, teachers, target, task_weight, weight, temperature, reverse, smoothing):
    """METHODS in loops: leaf by leaf, row by row, class by class."""
    loss = torch.zeros((), dtype=torch.float64)
    for logits in students:
        for i in range(len(target)):
            loss = loss + task_weight * smoothed_loss(logits[i], int(target[i]), smoothing)
            single = [softmax(teacher[i], temperature) for teacher in teachers]
            mean = [sum(values) / len(single) for values in zip(*single, strict=True)]
            student = softmax(logits[i], temperature)
            pair = (student, mean) if reverse else (mean, student)
            loss = loss + weight * temperature**2 * divergence(*pair)
    return loss


def draw(leaves=1, teachers=1, seed=0, rows=ROWS, classes=CLASSES):
    torch.manual_seed(seed)
    students = [2 * torch.randn(rows, classes, dtype=torch.float64) for _ in range(leaves)]
    fixed = [2 * torch.randn(rows, classes, dtype=torch.float64) for _ in range(teachers)]
    for logits in (*students, *fixed):
        logits.requires_grad_()
    return students, fixed, torch.randint(classes, (rows,))


def build(name, leaves, smoothing=0.1, **options):
    tree = f"1({','.join(['1'] * leaves)})" if leaves > 1 else "1"
    return build_objective(name, tree, 4, CLASSES, label_smoothing=smoothing, **options)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.5, 4.0])
@pytest.mark.parametrize(("leaves", "teachers"), [(1, 1), (1, 3), (4, 1), (2, 2)])
@pytest.mark.parametrize("name", ["kd", "kd_hinton"])
def test_value_and_gradients_are_those_of_the_loops(name, leaves, teachers, temperature, reverse):
    students, fixed, target = draw(leaves, teachers)
    share = {"kd": "weight", "kd_hinton": "strength"}[name]
    objective = build(name, leaves, temperature=temperature, reverse=reverse, **{share: 0.7})
    loss = total(objective(students, target, teacher_logits=fixed))
    task_weight = 1.0 if name == "kd_hinton" else 0.3
    expected = reference(
        students, fixed, target, task_weight, 0.7, temperature, reverse, smoothing=0.1
    )
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    ours = torch.autograd.grad(loss, students)
    theirs = torch.autograd.grad(expected, students)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-10)


def test_the_published_values_are_the_defaults():
    students, fixed, target = draw()
    word = total(build("kd", 1)(students, target, teacher_logits=fixed))
    hinton = total(build("kd_hinton", 1)(students, target, teacher_logits=fixed))
    expected = reference(students, fixed, target, 0.5, 0.5, 1.0, False, 0.1)
    torch.testing.assert_close(word, expected)
    expected = reference(students, fixed, target, 1.0, 1.0, 3.0, False, 0.1)
    torch.testing.assert_close(hinton, expected)


@pytest.mark.parametrize("name", ["kd", "kd_hinton"])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradcheck_holds(name, reverse):
    students, fixed, target = draw(leaves=2, rows=2, classes=CLASSES)
    objective = build(name, 2, reverse=reverse)

    def loss(*logits):
        return total(objective(logits, target, teacher_logits=fixed))

    assert torch.autograd.gradcheck(loss, students)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_teacher_gets_no_gradient(reverse):
    students, fixed, target = draw(teachers=2)
    loss = total(build("kd", 1, reverse=reverse)(students, target, teacher_logits=fixed))
    assert torch.autograd.grad(loss, fixed, allow_unused=True) == (None, None)


@pytest.mark.parametrize("name", ["kd", "kd_hinton"])
def test_a_student_that_equals_its_teacher_has_no_distillation(name):
    students, _, target = draw()
    terms = build(name, 1)([students[0].float()], target, teacher_logits=[students[0].float()])
    assert abs(terms["distillation"].item()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_stay_finite(dtype):
    students, fixed, target = draw(leaves=2)
    extreme = [(1e4 * logits.detach().sign()).to(dtype).requires_grad_() for logits in students]
    teacher = [(-1e4 * fixed[0].detach().sign()).to(dtype)]
    loss = total(build("kd", 2)(extreme, target, teacher_logits=teacher))
    assert math.isfinite(loss.item())
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, extreme))


def test_under_two_dropout_passes_each_imitates_the_teacher():
    students, fixed, target = draw(leaves=2)
    terms = build("kd", 1, rdrop_weight=2.0)(students, target, teacher_logits=fixed)
    single = [build("kd", 1)([z], target, teacher_logits=fixed) for z in students]
    for name in ("task", "distillation"):
        torch.testing.assert_close(terms[name], single[0][name] + single[1][name])
    assert terms["rdrop"] > 0


def test_terms_are_additive_over_rows():
    students, fixed, target = draw(leaves=2, teachers=2)
    objective = build("kd", 2, temperature=2.0)
    whole = total(objective(students, target, teacher_logits=fixed))
    parts = [
        total(
            objective(
                [z[part] for z in students], target[part], teacher_logits=[z[part] for z in fixed]
            )
        )
        for part in (slice(0, 2), slice(2, ROWS))
    ]
    torch.testing.assert_close(whole, sum(parts))


def test_a_missing_teacher_is_named():
    students, _, target = draw()
    with pytest.raises(ValueError, match=r"objective 'kd' needs a teacher; pass teacher_logits"):
        build("kd", 1)(students, target)


def test_a_teacher_out_of_place_is_refused():
    students, fixed, target = draw()
    with pytest.raises(ValueError, match="'independent' has no use for teacher_logits; leave"):
        build("independent", 1)(students, target, teacher_logits=fixed)


def test_a_teacher_with_another_vocabulary_is_refused():
    students, fixed, target = draw()
    with pytest.raises(ValueError, match=r"of teacher 0 have shape \(5, 6\), expected \(5, 7\)"):
        build("kd", 1)(students, target, teacher_logits=[fixed[0][:, :-1]])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("kd", {"weight": 1.5}, "option 'weight' is 1.5; it must be between 0 and 1"),
        ("kd_hinton", {"strength": -1.0}, "option 'strength' is -1.0; it must be 0 or more"),
        ("kd", {"temperature": 0.0}, "option 'temperature' is 0.0; it must be greater than 0"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, 1, **options)


def misranked(student, teacher, top):
    """TIE-KD's ranking term in loops over the classes of one row."""
    p, t = softmax(student, 1.0), softmax(teacher, 1.0)
    order = sorted(range(len(p)), key=lambda c: -float(t[c]))[:top]
    own = sorted(range(len(p)), key=lambda c: -float(p[c]))[:top]
    zero = torch.zeros((), dtype=torch.float64)
    loss = sum(torch.maximum(zero, p[i] - p[order[0]]) for i in order)
    return loss + sum(
        torch.maximum(zero, p[j] - p[i]) for i in order for j in own if float(t[i]) > float(t[j])
    )


@pytest.mark.parametrize("top", [1, 3, 9])
@pytest.mark.parametrize("leaves", [1, 3])
def test_the_ranking_term_is_that_of_the_loops_in_value_and_gradient(top, leaves):
    students, (teacher,), target = draw(leaves, seed=top)
    okd = build("kd", leaves, weight=0.4, rank_top=top)
    ours = okd(students, target, teacher_logits=[teacher])["rank"]
    rows = [misranked(s[i], teacher[i], top) for s in students for i in range(ROWS)]
    theirs = 0.4 * sum(rows)
    torch.testing.assert_close(ours, theirs)
    assert theirs > 0
    for mine, other in zip(
        torch.autograd.grad(ours, students), torch.autograd.grad(theirs, students), strict=True
    ):
        torch.testing.assert_close(mine, other)


def test_a_student_that_ranks_as_its_teacher_has_no_ranking_loss():
    students, _, target = draw()
    okd = build("kd", 1, rank_top=5)
    terms = okd(students, target, teacher_logits=[3 * students[0].detach()])
    assert terms["rank"] == 0
