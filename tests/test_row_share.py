"""A share of the rows: value and gradient are right on average, and the draw is the seed's."""

from itertools import product

import pytest
import torch

from tsa_mt.branches import BranchOutputs, Projection, TeacherOutputs
from tsa_mt.head import branch_head
from tsa_mt.objectives import OBJECTIVES, Context, build_objective
from tsa_mt.objectives.consistency import passes_of
from tsa_mt.row_share import draw_rows, shared_head

ROWS, DIM, CLASSES, SHARE = 4, 8, 7, 0.3
CONTEXT = Context(0.5, 0.1)
METHODS = [
    *((name, {}) for name in OBJECTIVES),
    ("tsa", {"rdrop_weight": 2.0}),
    ("tsa", {"simcut_weight": 2.0}),
    ("tsa", {"word_dropout": 0.1}),
]


class Batch:
    """An objective with features for its leaves, in float64."""

    def __init__(self, name, options, rows=ROWS):
        leaves = 1 if OBJECTIVES[name].needs_bridge else 3
        tree = f"0({','.join('1' * leaves)})" if leaves > 1 else "2"
        torch.manual_seed(1)
        self.objective = build_objective(name, tree, DIM, CLASSES, **options).double().train()
        passes = passes_of(self.objective)

        def draw(*shape):
            return torch.randn(*shape, dtype=torch.float64)

        own = [draw(passes * rows, DIM).requires_grad_() for _ in range(leaves)]
        self.weight = draw(CLASSES, DIM).requires_grad_()
        self.outputs = self.objective.fuse(BranchOutputs(own, trunk=draw(passes * rows, DIM)))
        bridge = [draw(rows, DIM).requires_grad_()] if self.objective.needs_bridge else []
        self.outputs.features.extend(bridge)
        shared = Projection(self.weight)
        plain = [shared] * (leaves + len(bridge))
        self.projections = (plain + list(self.objective.projections)) * passes
        taught = self.objective.needs_teacher or self.objective.average_decay is not None
        count = self.objective.leaves if self.objective.average_decay is not None else 1
        self.teachers = (
            TeacherOutputs([draw(rows, DIM) for _ in range(count)], [shared.detach()] * count)
            if taught
            else None
        )
        self.target = torch.randint(CLASSES, (rows,))
        self.inputs = [*own, *bridge, self.weight, *self.objective.parameters()]

    def arguments(self):
        return self.objective, self.outputs, self.projections, self.target, CONTEXT

    def gradients(self, total):
        found = torch.autograd.grad(total, self.inputs, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(self.inputs, found)]


@pytest.mark.parametrize("chunk_rows", [0, 2])
@pytest.mark.parametrize(("name", "options"), METHODS, ids=str)
def test_on_average_over_all_draws_value_and_gradient_are_those_of_all_rows(
    name, options, chunk_rows
):
    batch = Batch(name, options)
    exact = branch_head(*batch.arguments(), chunk_rows=chunk_rows, teachers=batch.teachers)
    expected = [exact.total, *exact.terms.values(), *batch.gradients(exact.total)]
    mean = [torch.zeros_like(tensor) for tensor in expected]
    for drawn in product([False, True], repeat=ROWS):
        chance = SHARE ** sum(drawn) * (1 - SHARE) ** (ROWS - sum(drawn))
        mask = torch.tensor(drawn)
        found = shared_head(
            *batch.arguments(), mask, SHARE, chunk_rows=chunk_rows, teachers=batch.teachers
        )
        assert list(found.terms) == list(exact.terms)
        for total, value in zip(
            mean, [found.total, *found.terms.values(), *batch.gradients(found.total)], strict=True
        ):
            total += chance * value.detach()
    for ours, theirs in zip(mean, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), [("independent", {}), ("tsa", {"start": 9})], ids=str)
def test_the_leader_s_task_loss_is_of_all_rows_whatever_was_drawn(name, options):
    batch = Batch(name, options)
    *arguments, _ = batch.arguments()
    early = Context(0.5, 0.1, started=False)
    leader, *_ = batch.gradients(branch_head(*arguments, early).total)
    for drawn in product([False, True], repeat=ROWS):
        found = shared_head(*arguments, early, torch.tensor(drawn), SHARE)
        torch.testing.assert_close(batch.gradients(found.total)[0], leader)


def test_drawing_every_row_is_the_head_itself():
    batch = Batch("tsa", {})
    exact = branch_head(*batch.arguments())
    found = shared_head(*batch.arguments(), torch.ones(ROWS, dtype=torch.bool), 1.0)
    torch.testing.assert_close(found.total, exact.total)
    for ours, theirs in zip(batch.gradients(found.total), batch.gradients(exact.total)):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("drawn", [[True, False, True, True], [False] * 4, [True] * 4])
def test_statistics_stand_for_all_rows_and_the_leader_s_are_of_all_rows(drawn):
    batch = Batch("tsa", {})

    def observer(rows, first):
        seen = -rows.log_probs()[:, torch.arange(len(rows.targets)), rows.targets].detach().sum(1)
        leader = dict.fromkeys(("loss", "nll_loss", "n_correct"), seen[0])
        return {**leader, **{f"nll_b{leaf}": value for leaf, value in enumerate(seen)}}

    exact = branch_head(*batch.arguments(), observer=observer).statistics
    mask = torch.tensor(drawn)
    found = shared_head(*batch.arguments(), mask, SHARE, observer=observer).statistics
    assert found.keys() == exact.keys()
    for name in ("loss", "nll_loss", "n_correct", "nll_b0"):
        torch.testing.assert_close(found[name], exact[name])
    outputs, target = batch.outputs.rows(mask), batch.target[mask]
    part = branch_head(
        batch.objective, outputs, batch.projections, target, CONTEXT, observer=observer
    ).statistics
    torch.testing.assert_close(found["nll_b2"], part["nll_b2"] * 4 / max(1, sum(drawn)))


# --- the draw -----------------------------------------------------------------------------------


def mask(lengths, width):
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def test_a_row_is_drawn_by_its_sentence_and_place_not_by_its_batch():
    ids, lengths = torch.arange(40) * 7, [3 + n % 9 for n in range(40)]
    whole = draw_rows(ids, mask(lengths, 11), 0.5, seed=3, update=8)
    halves = [
        draw_rows(ids[part], mask(lengths[part], width), 0.5, seed=3, update=8)
        for part, width in ((slice(0, 17), 11), (slice(17, 40), 15))
    ]
    assert torch.equal(whole, torch.cat(halves))


def test_another_seed_or_update_draws_other_rows():
    ids, keep = torch.arange(50), torch.ones(50, 20, dtype=torch.bool)
    first = draw_rows(ids, keep, 0.5, seed=3, update=8)
    assert torch.equal(first, draw_rows(ids, keep, 0.5, seed=3, update=8))
    for seed, update in ((3, 9), (4, 8), (8, 3)):
        same = (first == draw_rows(ids, keep, 0.5, seed=seed, update=update)).double().mean()
        assert abs(same - 0.5) < 0.06


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(20000,), (1000, 20)])
def test_the_share_of_rows_that_are_drawn_is_the_one_asked_for(share, shape):
    drawn = draw_rows(torch.arange(shape[0]), torch.ones(shape, dtype=torch.bool), share, 1, 0)
    assert len(drawn) == 20000
    assert drawn.double().mean() == pytest.approx(share, abs=4 * (share * (1 - share) / 2e4) ** 0.5)
    again = drawn.double()[:-1] * drawn.double()[1:]  # neighbours know nothing of each other
    assert again.mean() == pytest.approx(share**2, abs=0.015)
