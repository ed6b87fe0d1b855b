"""The chunked head against a plain evaluation in float64: values and every gradient."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tsa_mt import head
from tsa_mt.branches import BranchOutputs, Projection
from tsa_mt.head import branch_head
from tsa_mt.objectives import Context, Objective, Rows, build_objective
from tsa_mt.tree import Tree

ROWS, DIM, CLASSES, LEAVES = 20, 8, 11, 4
TREE = "0(1,1,1,1)"
CHUNKS = [1, 3, 7, ROWS, 1000, None]
DEVICE = "cuda"
SMOOTHED = Context(label_smoothing=0.1)


class Gated(Objective):
    """A test's own objective with a trainable gate: every row weighs its leaves' losses."""

    name = "gated"

    def __init__(self, tree, feature_dim, num_classes, **options):
        super().__init__(tree, feature_dim, num_classes, **options)
        self.gate = nn.Linear(feature_dim, self.leaves)

    def fuse(self, outputs):
        gate = torch.softmax(self.gate(outputs.features[0]), -1)  # rows x leaves
        return replace(outputs, gates={"gate": gate, "constant": 0 * gate.detach().long()})

    def terms(self, rows):
        chosen = rows.targets.expand(rows.leaves, -1).unsqueeze(-1)
        losses = -rows.log_probs().gather(-1, chosen).squeeze(-1)  # leaves x rows
        assert not rows.gate("constant").requires_grad
        weighted = losses * rows.gate("gate").t()
        return {"gated": weighted.sum(), "evenness": rows.gate("gate").square().sum()}


OBJECTIVES = {
    "tsa": lambda: build_objective("tsa", TREE, DIM, CLASSES),
    "independent": lambda: build_objective("independent", TREE, DIM, CLASSES),
    "gated": lambda: Gated(Tree.parse(TREE), DIM, CLASSES),
}


class Case:
    """Everything one evaluation needs, drawn in float64 and rounded to a type."""

    def __init__(self, objective="tsa", dtype=torch.float32, shared=True, bias=False, rows=ROWS):
        generator = torch.Generator().manual_seed(7)

        def draw(*shape):
            values = torch.randn(*shape, dtype=torch.float64, generator=generator)
            return values.to(dtype).requires_grad_()

        self.features = [draw(rows, DIM) for _ in range(LEAVES)]
        distinct = 1 if shared else LEAVES
        self.weights = [draw(CLASSES, DIM) for _ in range(distinct)]
        self.biases = [draw(CLASSES) for _ in range(distinct)] if bias else []
        self.target = torch.randint(CLASSES, (rows,), generator=generator)
        torch.manual_seed(3)
        self.objective = OBJECTIVES[objective]().to(dtype)

    def to(self, device):
        """Moves everything to a device, in place."""
        for tensor in self.inputs():
            tensor.data = tensor.data.to(device)
        self.target = self.target.to(device)

    def projections(self):
        own = [
            Projection(weight, self.biases[i] if self.biases else None)
            for i, weight in enumerate(self.weights)
        ]
        return own if len(own) == LEAVES else own * LEAVES

    def inputs(self):
        every = [*self.features, *self.weights, *self.biases, *self.objective.parameters()]
        return [tensor for tensor in every if tensor.requires_grad]

    def run(self, chunk_rows, **options):
        outputs = self.objective.fuse(BranchOutputs(self.features))
        return branch_head(
            self.objective,
            outputs,
            self.projections(),
            self.target,
            SMOOTHED,
            chunk_rows=chunk_rows,
            **options,
        )

    def exact(self):
        """The same in float64 without the head: the total, the terms, and all gradients."""
        double = Case.__new__(Case)
        double.features, double.weights, double.biases = (
            [x.detach().double().requires_grad_(x.requires_grad) for x in group]
            for group in (self.features, self.weights, self.biases)
        )
        double.objective = OBJECTIVES[self.objective.name]().double()
        double.objective.load_state_dict(self.objective.state_dict())
        for ours, theirs in zip(self.objective.parameters(), double.objective.parameters()):
            theirs.requires_grad_(ours.requires_grad)
        outputs = double.objective.fuse(BranchOutputs(double.features))
        logits = [
            feature @ projection.weight.t() + (0 if projection.bias is None else projection.bias)
            for feature, projection in zip(outputs.features, double.projections(), strict=True)
        ]
        rows = Rows(logits, self.target, outputs.features, outputs.gates, None, SMOOTHED)
        terms = double.objective.terms(rows)
        total = sum(terms.values())
        return total.detach(), terms, torch.autograd.grad(total, double.inputs())


def assert_close(actual, expected, relative):
    """Every tensor within a fraction of the largest entry of the exact one."""
    for ours, exact in zip(actual, expected, strict=True):
        assert (ours.double() - exact).abs().max() <= relative * exact.abs().max()


@pytest.mark.parametrize("chunk_rows", [0, *CHUNKS])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize(
    ("dtype", "value", "gradient"),
    [
        (torch.float64, 1e-13, 1e-13),
        (torch.float32, 1e-6, 1e-5),
        (torch.bfloat16, 1e-2, 3e-2),
        (torch.float16, 1e-3, 4e-3),
    ],
    ids=["float64", "float32", "bfloat16", "float16"],
)
def test_values_and_all_gradients_are_those_of_the_plain_evaluation(
    dtype, value, gradient, shared, bias, objective, chunk_rows
):
    case = Case(objective, dtype, shared, bias)
    result = case.run(chunk_rows)
    total, terms, gradients = case.exact()
    assert_close([result.total], [total], value)
    assert set(result.terms) == set(terms)
    assert_close(result.terms.values(), terms.values(), 2 * value)
    actual = torch.autograd.grad(result.total, case.inputs())
    assert [g.dtype for g in actual] == [dtype] * len(actual)
    assert_close(actual, gradients, gradient)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
def test_autocast_gives_the_same_within_its_type(dtype, objective, shared):
    case = Case(objective, torch.float32, shared, bias=True)
    expected_way = "_recompute" if dtype == torch.float16 else "_gradient_in_forward"
    with torch.autocast("cpu", dtype), watched(expected_way) as calls:
        result = case.run(7)
    assert len(calls) == 1
    total, _, gradients = case.exact()
    assert_close([result.total], [total], 2e-2)
    actual = torch.autograd.grad(result.total, case.inputs())
    assert {g.dtype for g in actual} == {torch.float32}
    assert_close(actual, gradients, 4e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize(
    ("dtype", "cast", "tolerance"),
    [
        (torch.float32, None, 1e-5),
        (torch.bfloat16, None, 3e-2),
        (torch.float16, None, 5e-3),
        (torch.float32, torch.float16, 4e-2),
        (torch.float32, torch.bfloat16, 4e-2),
    ],
)
def test_on_a_gpu_values_and_gradients_are_the_same(objective, shared, dtype, cast, tolerance):
    case = Case(objective, dtype, shared, bias=True)
    total, _, gradients = case.exact()
    case.to(DEVICE)
    for chunk_rows in (0, 7, None):
        with torch.autocast(DEVICE, cast, enabled=cast is not None):
            result = case.run(chunk_rows)
        assert_close([result.total.cpu()], [total], tolerance)
        actual = torch.autograd.grad(result.total * 4, case.inputs())
        assert_close([gradient.cpu() / 4 for gradient in actual], gradients, tolerance)


def test_autocast_leaves_float64_alone():
    case = Case(dtype=torch.float64)
    total, _, gradients = case.exact()
    with torch.autocast("cpu", torch.bfloat16):
        result = case.run(7)
    assert_close([result.total], [total], 1e-13)
    assert_close(torch.autograd.grad(result.total, case.inputs()), gradients, 1e-13)


class watched:
    """Records the calls of a function of the head."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self.original, self.calls = getattr(head, self.name), []

        def function(*args, **kwargs):
            self.calls.append(args)
            return self.original(*args, **kwargs)

        setattr(head, self.name, function)
        return self.calls

    def __exit__(self, *exception):
        setattr(head, self.name, self.original)


# --- the loss scale -----------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_rows", [0, 3])
def test_a_loss_scale_saves_small_float16_gradients(chunk_rows):
    case = Case(dtype=torch.float16)
    _, _, exact = case.exact()
    tiny = 2.0**-18  # unscaled float16 would keep next to nothing of such gradients
    result = case.run(chunk_rows)
    scaled = torch.autograd.grad(result.total * tiny * 1024, case.inputs())
    assert_close([g.double() / 1024 / tiny for g in scaled], exact, 4e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_incoming_scale_is_not_rounded_to_the_type_of_the_gradients(dtype):
    case = Case(dtype=dtype)
    once = torch.autograd.grad(case.run(3).total, case.inputs())
    factor = 1.0 + 2.0**-9  # which bfloat16 would round to 1
    scaled = torch.autograd.grad(case.run(3).total * (1000 * factor), case.inputs())
    for small, large in zip(once, scaled, strict=True):
        ratio = large.double().norm() / small.double().norm()
        assert ratio.item() == pytest.approx(1000 * factor, rel=1e-3)


def test_float16_sums_a_projection_s_chunks_in_float32():
    case = Case("independent", torch.float16, rows=4000)
    exact = case.exact()[2]
    actual = torch.autograd.grad(case.run(16).total / 64, case.inputs())
    assert_close([actual[LEAVES]], [exact[LEAVES] / 64], 2e-3)


# --- what gets a gradient -----------------------------------------------------------------------


@pytest.mark.parametrize("chunk_rows", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("frozen", ["one feature", "all features", "weight", "bias", "gate"])
def test_what_needs_no_gradient_gets_none_and_the_rest_is_unchanged(frozen, dtype, chunk_rows):
    case = Case("gated", dtype, shared=False, bias=True)
    stopped = {
        "one feature": case.features[1:2],
        "all features": case.features,
        "weight": case.weights[2:3],
        "bias": case.biases[:1],
        "gate": list(case.objective.parameters()),
    }[frozen]
    for tensor in stopped:
        tensor.requires_grad_(False)
    _, _, gradients = case.exact()
    actual = torch.autograd.grad(case.run(chunk_rows).total, case.inputs())
    assert_close(actual, gradients, 1e-5 if dtype == torch.float32 else 5e-3)
    case.run(chunk_rows).total.backward()
    assert all(tensor.grad is None for tensor in stopped)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_without_grad_no_gradient_is_computed(dtype, monkeypatch):
    case = Case("gated", dtype)
    expected = case.run(0)
    for name in ("_gradient_in_forward", "_recompute", "_Gradients"):
        monkeypatch.setattr(head, name, None)  # calling it would raise
    monkeypatch.setattr(torch.autograd, "grad", None)
    with torch.no_grad():
        result = case.run(3)
    assert not result.total.requires_grad
    tolerance = {"rtol": 1e-5 if dtype == torch.float32 else 1e-4, "atol": 0.0}
    torch.testing.assert_close(result.total, expected.total.detach(), **tolerance)
    torch.testing.assert_close(dict(result.terms), dict(expected.terms), **tolerance)


def test_frozen_models_are_evaluated_without_gradients_too(monkeypatch):
    case = Case()
    for tensor in case.inputs():
        tensor.requires_grad_(False)
    monkeypatch.setattr(head, "_Gradients", None)
    assert not case.run(3).total.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_terms_are_detached_and_their_sum_is_the_total(dtype):
    for chunk_rows in (0, 3):
        result = Case(dtype=dtype).run(chunk_rows)
        assert result.total.requires_grad
        assert not any(term.requires_grad for term in result.terms.values())
        torch.testing.assert_close(sum(result.terms.values()), result.total.detach())


def test_gradients_accumulate_over_batches():
    first, second = Case(), Case()
    second.weights = first.weights
    for case in (first, second):
        case.run(3).total.backward()
    exact = [case.exact()[2][LEAVES] for case in (first, second)]
    assert_close([first.weights[0].grad], [sum(exact)], 1e-5)


def test_backward_can_be_repeated_with_the_same_result():
    case = Case("gated")
    total = case.run(3).total
    once = torch.autograd.grad(total, case.inputs(), retain_graph=True)
    again = torch.autograd.grad(total, case.inputs())
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


# --- no rows, chunks, observers -----------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("chunk_rows", [0, 3, None])
def test_without_rows_everything_is_a_finite_zero_with_the_same_keys(objective, dtype, chunk_rows):
    def observer(rows, first):
        return {"rows": torch.tensor(len(rows.targets)), "first": torch.tensor(int(first))}

    full = Case(objective, dtype).run(chunk_rows, observer=observer)
    empty_case = Case(objective, dtype, rows=0)
    empty = empty_case.run(chunk_rows, observer=observer)
    assert empty.total.item() == 0.0
    assert list(empty.terms) == list(full.terms)
    assert not any(value.item() for value in empty.terms.values())
    assert empty.statistics.keys() == full.statistics.keys()
    assert {n: v for n, v in empty.statistics.items() if v} == {"first": 1}
    for gradient in torch.autograd.grad(empty.total, empty_case.inputs(), allow_unused=True):
        assert gradient is None or not gradient.any()


@pytest.mark.parametrize("objective", ["tsa", "gated"])
def test_without_rows_every_parameter_still_gets_a_gradient(objective):
    case = Case(objective, rows=0)
    case.run(None).total.backward()
    assert all(tensor.grad is not None for tensor in case.inputs())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("chunk_rows", [1, 7, 1000])
def test_an_observer_sees_every_row_once_and_without_gradients(dtype, chunk_rows):
    seen = []

    def observer(rows, first):
        seen.append((rows.targets, first))
        assert rows.logits().shape == (LEAVES, len(rows.targets), CLASSES)
        assert not (rows.logits() + 1).requires_grad  # nothing is recorded here
        return {"rows": torch.tensor(len(rows.targets))}

    case = Case(dtype=dtype)
    result = case.run(chunk_rows, observer=observer)
    result.total.backward()  # recomputing must not observe again
    assert torch.equal(torch.cat([target for target, _ in seen]), case.target)
    assert [first for _, first in seen] == [True] + [False] * (len(seen) - 1)
    assert result.statistics["rows"] == ROWS


def test_chunks_are_sized_by_the_bytes_of_all_leaves_logits(monkeypatch):
    monkeypatch.setattr(head, "LEAST_PRODUCT_ROWS", 13 * LEAVES)
    monkeypatch.setitem(head.CHUNK_BYTES, "cpu", 4 * LEAVES * CLASSES * 17)
    with watched("_observe") as calls:
        Case(rows=40).run(None)
    assert [len(batch.target) for batch, _, _ in calls] == [17, 17, 6]


def test_chunks_keep_enough_rows_for_their_matrix_products(monkeypatch):
    monkeypatch.setattr(head, "LEAST_PRODUCT_ROWS", 13 * LEAVES + LEAVES - 1)
    monkeypatch.setitem(head.CHUNK_BYTES, "cpu", 1)
    with watched("_observe") as calls:
        Case(rows=40).run(None)
    assert [len(batch.target) for batch, _, _ in calls] == [13, 13, 13, 1]


def test_a_chunk_has_a_row_even_of_more_leaves_than_the_least_product(monkeypatch):
    monkeypatch.setattr(head, "LEAST_PRODUCT_ROWS", LEAVES - 1)
    monkeypatch.setitem(head.CHUNK_BYTES, "cpu", 1)
    with watched("_observe") as calls:
        Case(rows=2).run(None)
    assert [len(batch.target) for batch, _, _ in calls] == [1, 1]


def test_no_tensor_of_the_whole_batch_s_logits_is_ever_made():
    case, largest = Case(rows=400), [0]

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest[0] = max(largest[0], result.numel())
            return result

    with Sizes():
        case.run(10).total.backward()
    assert largest[0] <= max(LEAVES * 10 * CLASSES, 400 * DIM)
    with Sizes():
        case.run(0)
    assert largest[0] >= LEAVES * 400 * CLASSES
