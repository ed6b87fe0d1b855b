"""TSA against a loop over leaves, rows and classes written from the paper's equations."""

from itertools import permutations

import pytest
import torch

from tsa_mt.objectives import build_objective

TREES = {1: "2", 2: "0(1,1)", 4: "0(1,1,1,1)"}
ROWS, CLASSES = 3, 5
TARGET = torch.tensor([4, 0, 2])


def make_logits(leaves, dtype=torch.float64):
    generator = torch.Generator().manual_seed(leaves)
    return (2 * torch.randn(leaves, ROWS, CLASSES, generator=generator)).to(dtype)


def make(leaves=4, **options):
    return build_objective("tsa", TREES[leaves], feature_dim=8, num_classes=CLASSES, **options)


def total(terms):
    return sum(terms.values())


def log_softmax(row, temperature=1.0):
    normaliser = sum(torch.exp(value / temperature) for value in row).log()
    return [value / temperature - normaliser for value in row]


def naive(logits, target, weight=0.3, temperature=3.0, detach=False, smoothing=0.0):
    """sum_k (1-a) CE(z_k, y) + a T^2 / (K-1) sum_{j != k} KL(p_j || p_k), p_k = softmax(z_k/T)."""
    leaves = len(logits)
    loss = 0.0
    for row, true in enumerate(target.tolist()):
        for k in range(leaves):
            for index, value in enumerate(log_softmax(logits[k][row])):
                share = 1.0 - smoothing if index == true else smoothing / (CLASSES - 1)
                task_weight = 1.0 - weight if leaves > 1 else 1.0
                loss = loss - task_weight * share * value
            student = log_softmax(logits[k][row], temperature)
            for j in range(leaves):
                if j == k:
                    continue
                imitated = log_softmax(logits[j][row], temperature)
                for ours, theirs in zip(student, imitated, strict=True):
                    theirs = theirs.detach() if detach else theirs
                    divergence = theirs.exp() * (theirs - ours)
                    loss = loss + weight * temperature**2 / (leaves - 1) * divergence
    return loss


@pytest.mark.parametrize("leaves", TREES)
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize(
    ("weight", "temperature", "smoothing"), [(0.3, 3.0, 0.0), (0.3, 1.0, 0.1), (0.7, 0.5, 0.1)]
)
def test_value_and_gradients_are_the_published_ones(leaves, detach, weight, temperature, smoothing):
    ours, theirs = (make_logits(leaves).requires_grad_() for _ in range(2))
    okd = make(
        leaves, weight=weight, temperature=temperature, detach=detach, label_smoothing=smoothing
    )
    loss = total(okd(list(ours), TARGET))
    expected = naive(theirs, TARGET, weight, temperature, detach, smoothing)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-11, atol=1e-12)


def test_left_alone_it_has_the_published_weight_and_temperature_and_detaches_nothing():
    okd = make()
    assert (okd.config.weight, okd.config.temperature, okd.config.detach) == (0.3, 3.0, False)
    assert type(okd).default_tree == "tsa"
    torch.testing.assert_close(
        total(okd(list(make_logits(4)), TARGET)), naive(make_logits(4), TARGET)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_single_leaf_has_exactly_the_task_loss(smoothing):
    logits = make_logits(1)
    terms = make(1, label_smoothing=smoothing)(list(logits), TARGET)
    task = build_objective("independent", "2", 8, CLASSES, label_smoothing=smoothing)
    assert torch.equal(terms["task"], task(list(logits), TARGET)["task"])
    assert terms["distillation"].item() == 0.0


@pytest.mark.parametrize("detach", [False, True])
def test_identical_leaves_have_nothing_to_teach_each_other(detach):
    logits = make_logits(1, torch.float32).expand(4, -1, -1).clone().requires_grad_()
    terms = make(detach=detach)(list(logits), TARGET)
    terms["distillation"].backward()
    assert abs(terms["distillation"].item()) < 1e-5
    assert logits.grad.abs().max() < 1e-5


def test_the_loss_adds_up_over_rows():
    okd, logits = make(label_smoothing=0.1), make_logits(4)
    whole = okd(list(logits), TARGET)
    parts = [okd(list(logits[:, row : row + 1]), TARGET[row : row + 1]) for row in range(ROWS)]
    for name, value in whole.items():
        torch.testing.assert_close(value, sum(part[name] for part in parts))


def test_the_order_of_the_leaves_does_not_matter():
    okd, logits = make(), make_logits(4)
    losses = [total(okd([logits[k] for k in order], TARGET)) for order in permutations(range(4))]
    torch.testing.assert_close(torch.stack(losses), losses[0].expand(24))


@pytest.mark.parametrize("leaves", TREES)
def test_gradients_pass_gradcheck_in_float64(leaves):
    okd = make(leaves, label_smoothing=0.1)
    logits = [leaf.clone().requires_grad_() for leaf in make_logits(leaves)]
    assert torch.autograd.gradcheck(lambda *leaves: total(okd(leaves, TARGET)), logits)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_stay_finite(dtype, detach):
    generator = torch.Generator().manual_seed(3)
    signs = torch.randn(4, ROWS, CLASSES, generator=generator).sign()
    logits = [leaf.clone().requires_grad_() for leaf in (1e4 * signs).to(dtype)]
    loss = total(make(detach=detach, label_smoothing=0.1)(logits, TARGET))
    loss.backward()
    assert loss.isfinite()
    assert all(leaf.grad.isfinite().all() and leaf.grad.dtype == dtype for leaf in logits)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_half_precision_is_summed_in_float32_and_float64_stays(dtype, result):
    terms = make()(list(make_logits(4, dtype)), TARGET)
    assert {value.dtype for value in terms.values()} == {result}
    exact = make()(list(make_logits(4, dtype).double()), TARGET)
    torch.testing.assert_close(total(terms).double(), total(exact), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 1.5}, "'weight' is 1.5; it must be between 0 and 1"),
        ({"weight": -0.1}, "'weight' is -0.1; it must be between 0 and 1"),
        ({"weight": float("nan")}, "'weight' is nan; it must be between 0 and 1"),
        ({"temperature": 0.0}, "'temperature' is 0.0; it must be greater than 0"),
        ({"temperature": float("inf")}, "'temperature' is inf; it must be greater than 0"),
        ({"temperature": float("nan")}, "'temperature' is nan; it must be greater than 0"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
