"""Distillation on a random share of the rows: an unbiased saving of the head.

Every leaf's logits are the larger part of an update. With ``--kd-row-share s`` only a share ``s``
of the rows gets them. The leader's task loss is still taken on all rows::

    L_s = 1/s sum_{i in S} [ L(i) - c CE_0(i) ]  +  sum_i c CE_0(i)

``L(i)`` is the loss of row i as the objective has it, ``CE_0`` the leader's task loss, ``c`` its
factor in ``L`` (`Objective.task_weight`), and a row is in S with probability ``s``. ``L_s`` and its
gradient are on average those of ``L`` over all rows. The published methods have ``s = 1``.

Whether a row is in S depends on the seed, the number of updates, the sentence and the position
alone: not on chunks, batches or the number of processes.
"""

from typing import Any

import torch
from torch import Tensor

from tsa_mt.branches import BranchOutputs, Projection, TeacherOutputs
from tsa_mt.head import HeadResult, Observer, branch_head
from tsa_mt.objectives.base import Objective
from tsa_mt.objectives.consistency import Consistency, passes_of
from tsa_mt.objectives.rows import Context, LossTerms, Rows

LEADER = ("loss", "nll_loss", "n_correct", "nll_b0")
"""Statistics that tell of the leader alone."""

MIX = (-7046029254386353131, -4658895280553007687, -7723592293110705685)
"""The constants of SplitMix64 (Steele, Lea and Flood, 2014) as signed numbers."""


def draw_rows(ids: Tensor, keep: Tensor, share: float, seed: int, update: int) -> Tensor:
    """Draws rows by a hash of where they stand.

    Args:
        ids: ``(batch,)`` numbers of the samples in their data set.
        keep: Boolean mask ``(batch,)`` or ``(batch, length)`` of the rows there are.
        share: Probability of each.
        seed: Of the training.
        update: Number of updates done.

    Returns:
        Boolean ``(rows,)``: which of the kept rows are drawn.
    """
    number = _mixed(ids.new_tensor(seed) * MIX[0] + update)
    number = _mixed(ids + number).view(-1, *[1] * (keep.dim() - 1))
    if keep.dim() > 1:
        number = _mixed(number + torch.arange(keep.shape[1], device=keep.device))
    uniform = (number >> 11 & (1 << 53) - 1).double() / (1 << 53)
    return (uniform < share)[keep]


def _mixed(number: Tensor) -> Tensor:
    """One step of SplitMix64 over 64-bit integers, which wrap around."""
    number = number + MIX[0]
    for shift, factor in ((30, MIX[1]), (27, MIX[2])):
        number = (number ^ (number >> shift & (1 << 64 - shift) - 1)) * factor
    return number ^ (number >> 31 & (1 << 33) - 1)


class _Sampled:
    """An objective on drawn rows: every term by 1 / share, without the leader's task loss.

    The first of an objective's terms is the one that holds it.
    """

    leader_apart = True

    def __init__(self, objective: Objective, share: float):
        self.objective = objective
        self.share = share
        self.leaves = objective.leaves

    def task_weight(self, context: Context) -> float:
        return self.objective.task_weight(context) / self.share

    def terms(self, rows: Rows) -> LossTerms:
        own = _leader_task(self.objective, rows, leaders_of(self.objective, rows.leaves))
        terms = self.objective.terms(rows)
        task = next(iter(terms))
        return {
            name: term / self.share for name, term in {**terms, task: terms[task] - own}.items()
        }


class _Leader:
    """The leader's task loss, on all rows."""

    def __init__(self, objective: Objective):
        self.objective = objective
        self.leaves = 1

    def task_weight(self, context: Context) -> float:
        return self.objective.task_weight(context)

    def terms(self, rows: Rows) -> LossTerms:
        return {"task": _leader_task(self.objective, rows, list(range(rows.leaves)))}


def _leader_task(objective: Objective, rows: Rows, leaders: list[int]) -> Tensor:
    own = Rows(rows.logits()[leaders], rows.targets, context=rows.context)
    return objective.task_weight(rows.context) * own.task_losses().sum()


def leaders_of(objective: Objective, leaves: int) -> list[int]:
    """The places of the leader among the leaves of the passes that have a task loss."""
    taught = objective.taught_passes if isinstance(objective, Consistency) else 1
    return list(range(0, leaves, leaves // passes_of(objective)))[:taught]


def shared_head(
    objective: Objective,
    outputs: BranchOutputs,
    projections: list[Projection],
    target: Tensor,
    context: Context,
    drawn: Tensor,
    share: float,
    chunk_rows: int | None = None,
    observer: Observer | None = None,
    teachers: TeacherOutputs | None = None,
) -> HeadResult:
    """The head on the drawn rows, and the leader's task loss on all.

    Args:
        objective: As for `branch_head`, like all arguments but two.
        outputs: Features and gates.
        projections: One per leaf.
        target: ``(rows,)`` class indices.
        context: Ramp-up and label smoothing.
        drawn: Boolean ``(rows,)``, the rows that get everything.
        share: The probability that they were drawn with.
        chunk_rows: Rows per chunk.
        observer: Computes statistics of the drawn rows.
        teachers: Frozen teachers.

    Returns:
        The total and the terms estimate those over all rows, and so do the statistics. The leader's
        among them (`LEADER`) are of all rows.
    """
    leaders = leaders_of(objective, len(outputs.features))
    on_drawn: Any = _Sampled(objective, share)
    of_leaders: Any = _Leader(objective)
    sampled = branch_head(
        on_drawn,
        outputs.rows(drawn),
        projections,
        target[drawn],
        context,
        chunk_rows,
        observer,
        None if teachers is None else teachers.rows(drawn),
    )
    every = branch_head(
        of_leaders,
        BranchOutputs([outputs.features[leaf] for leaf in leaders]),
        [projections[leaf] for leaf in leaders],
        target,
        context,
        chunk_rows,
        observer and _leader_only(observer),
    )
    return _joined(sampled, every, len(drawn) / max(1, int(drawn.sum())))


def _leader_only(observer: Observer) -> Observer:
    """The leader's statistics, of the first pass."""

    def observe(rows: Rows, first: bool) -> dict[str, Tensor]:
        found = observer(rows.part(slice(1), {}), first)
        return {name: found[name] for name in LEADER}

    return observe


def _joined(sampled: HeadResult, every: HeadResult, factor: float) -> HeadResult:
    """The sum of both; statistics of the drawn rows times ``factor`` stand for all rows."""
    task = next(iter(sampled.terms))
    return HeadResult(
        sampled.total + every.total,
        {**sampled.terms, task: sampled.terms[task] + every.terms["task"]},
        {**{n: value * factor for n, value in sampled.statistics.items()}, **every.statistics},
    )
