"""The branch head: projection to logits plus objective, in bounded memory.

Several leaves over a large vocabulary make (leaves x rows x classes) blocks that dwarf the rest of
an update. The head walks over chunks of rows small enough for the logits to stay in cache. Three
ways give the same numbers:

* **gradient in forward** (float32, bfloat16): each chunk's gradients are computed right after its
  loss, while its logits are hot, and only gradients of features, projections and gates are kept;
  backward scales them. A loss with a closed form is one compiled function (`tsa_mt.compiled`).
* **recompute** (float16): a loss scale arrives only in backward and unscaled float16 gradients
  would underflow, so each chunk is checkpointed and computed again in backward.
* **reference** (``chunk_rows=0``): one chunk, plain autograd; what the tests compare with.
"""

from dataclasses import dataclass, replace
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from tsa_mt.branches import BranchOutputs, Projection, TeacherOutputs, group_by_projection
from tsa_mt.compiled import LEAST_CLASSES, MutualFunction, compiled_mutual
from tsa_mt.objectives.mutual import mutual_of
from tsa_mt.objectives.rows import Context, Formula, LossTerms, Predictions, Rows
from tsa_mt.vitals import pressure_sums

CHUNK_BYTES = {"cpu": 8 * 2**20, "cuda": 256 * 2**20}
"""Size of one chunk's float32 logits of all leaves, by device type: about what a CPU's shared cache
holds beside the weights; on a GPU enough rows to fill it (benchmarks/head.py)."""

LEAST_PRODUCT_ROWS = 128
"""Least rows, of all leaves together, in a chunk's matrix products: with fewer, those of a large
vocabulary wait for its weights, which every chunk reads again (benchmarks/README.md)."""

Observer = Callable[[Rows, bool], Dict[str, Tensor]]
"""Computes statistics of a chunk, summed over rows: (rows, is first chunk)."""


class HeadResult(NamedTuple):
    """What the head returns.

    Attributes:
        total: The differentiable loss, summed over rows.
        terms: The detached named terms; their sum is ``total``.
        statistics: What the observer returned and the objective logged, summed over chunks. With
            an observer also the sums of `pressure_sums` over the first chunk, where gradients are
            taken in forward and there are terms beside the task's.
    """

    total: Tensor
    terms: LossTerms
    statistics: Dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class _Batch:
    """Everything of one batch that is walked over; tensors are full length (rows)."""

    objective: Formula
    context: Context
    features: List[Tensor]
    groups: List[Tuple[Projection, List[int]]]
    gates: Dict[str, Tensor]
    target: Tensor
    observer: Optional[Observer]
    teachers: List[Tuple[Tensor, Projection]]
    compiled: bool = False

    def chunk(self, rows: slice) -> "_Batch":
        return replace(
            self,
            features=[feature[rows] for feature in self.features],
            gates={name: gate[rows] for name, gate in self.gates.items()},
            target=self.target[rows],
            teachers=[(feature[rows], projection) for feature, projection in self.teachers],
        )

    def rows(self, logits, features: Sequence[Tensor], gates: Dict[str, Tensor]) -> Rows:
        """What the objective reads of a chunk, with the teachers' logits of these rows in it."""
        return Rows(logits, self.target, features, gates, self._teacher(), self.context)

    def _teacher(self) -> Optional[Predictions]:
        if not self.teachers:
            return None
        with torch.no_grad():
            logits = [
                torch.nn.functional.linear(feature, projection.weight, projection.bias)
                for feature, projection in self.teachers
            ]
        return Predictions(logits[0].unsqueeze(0) if len(logits) == 1 else torch.stack(logits))

    def inputs(self) -> List[Tensor]:
        """The tensors a gradient may flow into: features, projections, gates."""
        projections = [
            tensor
            for projection, _ in self.groups
            for tensor in (projection.weight, projection.bias)
            if tensor is not None
        ]
        return [*self.features, *projections, *self.gates.values()]


def branch_head(
    objective: Formula,
    outputs: BranchOutputs,
    projections: Sequence[Projection],
    target: Tensor,
    context: Context,
    chunk_rows: Optional[int] = None,
    observer: Optional[Observer] = None,
    teachers: Optional[TeacherOutputs] = None,
    compiled: bool = False,
) -> HeadResult:
    """Projects every leaf's features to logits and evaluates the objective on them.

    Args:
        objective: Gives the terms.
        outputs: Features ``(rows, dim)`` per leaf, and gates, without padding.
        projections: One per leaf; leaves with the same parameters share one matrix product.
        target: ``(rows,)`` class indices.
        context: Ramp-up and label smoothing.
        chunk_rows: Rows per chunk; ``None`` sizes chunks by `CHUNK_BYTES`, 0 is the reference.
        observer: Called once per chunk without gradients, for logging.
        teachers: Features ``(rows, dim)`` of frozen teachers, projected chunk by chunk like the
            leaves'; the objective finds the logits in `Rows.teacher`.
        compiled: Whether an objective with a closed form may be compiled, which takes some seconds
            at its first batch; done from `LEAST_CLASSES` classes on.

    Returns:
        A `HeadResult`; for a batch without rows everything in it is a finite zero.
    """
    batch = _Batch(
        objective,
        context,
        outputs.features,
        group_by_projection(projections),
        outputs.gates,
        target,
        observer,
        _frozen(teachers, _compute_dtype(outputs.features[0])),
        compiled,
    )
    if chunk_rows == 0:
        return _evaluate(batch, first=True)
    blocks = len(outputs.features) + len(batch.teachers)
    rows = chunk_rows or _chunk_rows(blocks, projections[0].weight)
    slices = _slices(target.shape[0], rows)
    if not torch.is_grad_enabled() or not any(x.requires_grad for x in batch.inputs()):
        return _summed(_evaluate(batch.chunk(s), i == 0) for i, s in enumerate(slices))
    if _compute_dtype(outputs.features[0]) == torch.float16:
        return _recompute(batch, slices)
    return _gradient_in_forward(batch, slices)


def _frozen(
    teachers: Optional[TeacherOutputs], dtype: torch.dtype
) -> List[Tuple[Tensor, Projection]]:
    """Teachers' features with their projections, detached and cast once for all chunks."""
    if teachers is None:
        return []
    return [
        (feature.detach().to(dtype), projection.detach().to(dtype))
        for feature, projection in zip(teachers.features, teachers.projections)
    ]


def _closed_form(batch: _Batch, dtype: torch.dtype) -> Optional[MutualFunction]:
    """The compiled loss of the batch's objective, ``None`` where it has none."""
    weight = batch.groups[0][0].weight
    loss = mutual_of(batch.objective)
    if loss is None or weight.shape[0] < LEAST_CLASSES:
        return None
    smoothing, leaves = batch.context.label_smoothing, len(batch.features)
    return compiled_mutual(loss, smoothing, leaves, weight.shape[0], dtype, weight.device.type)


def _chunk_rows(blocks: int, weight: Tensor) -> int:
    """Rows whose float32 logits fill the byte budget, but enough to keep matrix products useful.

    Args:
        blocks: Number of leaves and teachers together.
        weight: ``(classes, dim)`` of the leader's projection.
    """
    budget = CHUNK_BYTES.get(weight.device.type, CHUNK_BYTES["cuda"])
    product_rows = max(LEAST_PRODUCT_ROWS, budget // (4 * weight.shape[0]))
    return max(1, product_rows // blocks)


def _slices(total: int, rows: int) -> List[slice]:
    """Consecutive slices of ``rows`` rows; one empty slice when there is nothing to do."""
    return [slice(i, min(i + rows, total)) for i in range(0, max(total, 1), rows)]


def _compute_dtype(feature: Tensor) -> torch.dtype:
    """The type the projection runs in: autocast's where it is on, else that of the features."""
    device = feature.device.type
    if torch.is_autocast_enabled(device) and feature.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return feature.dtype


def _evaluate(batch: _Batch, first: bool) -> HeadResult:
    """Plain differentiable evaluation of one chunk."""
    dtype = _compute_dtype(batch.features[0])
    logits: List[Tensor] = [torch.empty(0)] * len(batch.features)
    for projection, leaves in batch.groups:
        stacked = torch.stack([batch.features[leaf] for leaf in leaves])
        cast = projection.to(dtype)
        projected = torch.nn.functional.linear(stacked, cast.weight, cast.bias)
        for leaf, tensor in zip(leaves, projected):
            logits[leaf] = tensor
    every = projected if len(batch.groups) == 1 else logits
    rows = batch.rows(every, batch.features, batch.gates)
    with torch.autocast(batch.target.device.type, enabled=False):
        terms = batch.objective.terms(rows)
    detached = {name: term.detach() for name, term in terms.items()}
    return HeadResult(_total(terms), detached, _observe(batch, rows, first))


def _total(terms: LossTerms) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def _observe(batch: _Batch, rows: Rows, first: bool) -> Dict[str, Tensor]:
    if batch.observer is None:
        return rows.logged
    with torch.no_grad():
        return {**batch.observer(rows, first), **rows.logged}


def _summed(results) -> HeadResult:
    """Adds up the results of all chunks."""
    total, terms, statistics = next(results)
    for result in results:
        total = total + result.total
        terms = {name: terms[name] + value for name, value in result.terms.items()}
        added = {n: statistics[n] + value for n, value in result.statistics.items()}
        statistics = {**statistics, **added}  # pressure is of the first chunk alone
    return HeadResult(total, terms, statistics)


def _recompute(batch: _Batch, slices: List[slice]) -> HeadResult:
    """Chunks whose logits are dropped after forward and computed again in backward.

    The projections pass through float32, so that autograd adds up their chunks' gradients there.
    """
    wide = [(projection.to(torch.float32), leaves) for projection, leaves in batch.groups]
    batch = replace(batch, groups=wide)

    def run(rows: slice, first: bool) -> HeadResult:
        return checkpoint(
            lambda: _evaluate(batch.chunk(rows), first),
            use_reentrant=False,
            preserve_rng_state=False,
        )

    return _summed(run(rows, index == 0) for index, rows in enumerate(slices))


def _gradient_in_forward(batch: _Batch, slices: List[slice]) -> HeadResult:
    """Chunks whose gradients are taken at once; backward only scales them."""
    named: Dict[str, Dict[str, Tensor]] = {}
    total = _GradientInForward.apply(batch, slices, named, *batch.inputs())
    return HeadResult(total, named["terms"], named["statistics"])


class _GradientInForward(torch.autograd.Function):
    """Loss of a batch whose gradients are computed during forward, chunk by chunk."""

    @staticmethod
    def forward(ctx, batch: _Batch, slices: List[slice], named: Dict, *inputs: Tensor) -> Tensor:
        gradients = _Gradients(batch, _compute_dtype(batch.features[0]))
        with torch.autocast(inputs[0].device.type, enabled=False):
            result = _summed(
                gradients.add(batch.chunk(rows), rows, index == 0)
                for index, rows in enumerate(slices)
            )
        named["terms"], named["statistics"] = result.terms, result.statistics
        ctx.save_for_backward(*gradients.cast())
        return result.total

    @staticmethod
    @once_differentiable  # what forward stored are constants: a second derivative would be wrong
    def backward(ctx, grad: Tensor):
        return (None, None, None, *(_scaled(saved, grad) for saved in ctx.saved_tensors))


def _scaled(saved: Optional[Tensor], grad: Tensor) -> Optional[Tensor]:
    """``saved * grad`` in the type of ``saved``; the scalar itself is not rounded to it."""
    return None if saved is None else saved * grad


class _Gradients:
    """Accumulates the gradients of one batch, chunk by chunk.

    Features' and gates' gradients are written into place; projections' are summed in float32
    (float64 for float64 models). What is frozen gets none.
    """

    def __init__(self, batch: _Batch, dtype: torch.dtype):
        self.dtype = dtype
        wide = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.batch = batch
        self.features = [_room_for_gradient(f, f.dtype) for f in batch.features]
        self.gates = {name: _room_for_gradient(g, g.dtype) for name, g in batch.gates.items()}
        self.weights = [_room_for_gradient(p.weight, wide) for p, _ in batch.groups]
        self.biases = [_room_for_gradient(p.bias, wide) for p, _ in batch.groups]
        self.casted = [projection.detach().to(dtype) for projection, _ in batch.groups]
        self.function = _closed_form(batch, dtype) if batch.compiled else None

    def add(self, chunk: _Batch, rows: slice, first: bool) -> HeadResult:
        """Evaluates a chunk and adds its gradients."""
        stacked = [
            torch.stack([chunk.features[leaf].detach().to(self.dtype) for leaf in leaves])
            for _, leaves in chunk.groups
        ]
        logits = self._project(chunk, stacked)
        closed = self.function is not None and len(chunk.target) > 1
        way = self._in_closed_form if closed else self._by_autograd
        seen, terms, of_logits = way(chunk, logits, rows)
        statistics = _observe(chunk, seen, first)
        if first and len(terms) > 1 and chunk.observer is not None:
            back = self._into_features
            statistics.update(pressure_sums(chunk.objective, seen, of_logits, back))
        self._add_logits(chunk, stacked, of_logits, rows)
        return HeadResult(_total(terms), terms, statistics)

    def _in_closed_form(
        self, chunk: _Batch, logits: Tensor, rows: slice
    ) -> Tuple[Rows, LossTerms, Tensor]:
        """Rows, terms, and the gradient with respect to the logits, by one function."""
        seen = chunk.rows(logits, chunk.features, chunk.gates)
        seen.sums = self.function(logits, chunk.target)
        values = (seen.sums.task, seen.sums.divergence)
        terms = dict(zip(chunk.objective.gradients, values))  # task alone has one name
        return seen, terms, seen.sums.gradient

    def _by_autograd(
        self, chunk: _Batch, logits: Tensor, rows: slice
    ) -> Tuple[Rows, LossTerms, Tensor]:
        """The same of any objective; gradients of gates and features are added here."""
        logits.requires_grad_()
        features = [_leaf(feature) for feature in chunk.features]
        gates = {name: _leaf(gate) for name, gate in chunk.gates.items()}
        seen = chunk.rows(logits, features, gates)
        with torch.enable_grad():
            terms = chunk.objective.terms(seen)
            total = _total(terms)
        of_logits, of_gates, of_features = _gradients(total, logits, gates, features)
        for name, gradient in of_gates.items():
            self.gates[name][rows] = gradient
        for leaf, gradient in of_features.items():
            self.features[leaf][rows] += gradient
        return seen, {name: term.detach() for name, term in terms.items()}, of_logits

    def _project(self, chunk: _Batch, stacked: List[Tensor]) -> Tensor:
        """Logits ``(leaves, rows, classes)``: one matrix product per distinct projection."""
        logits: Optional[Tensor] = None
        for (_, leaves), features, cast in zip(chunk.groups, stacked, self.casted):
            projected = torch.nn.functional.linear(features, cast.weight, cast.bias)
            if len(chunk.groups) == 1:
                return projected
            if logits is None:
                logits = projected.new_empty(len(chunk.features), *projected.shape[1:])
            logits[leaves] = projected
        return logits

    def _add_logits(
        self, chunk: _Batch, stacked: List[Tensor], gradient: Tensor, rows: slice
    ) -> None:
        for group, (_, leaves) in enumerate(chunk.groups):
            own = gradient if len(chunk.groups) == 1 else gradient[leaves]
            flat = own.flatten(0, 1).to(self.dtype)  # leaves*rows x classes
            features = stacked[group].flatten(0, 1)  # leaves*rows x dim
            if any(self.features[leaf] is not None for leaf in leaves):
                back = (flat @ self.casted[group].weight).view_as(stacked[group])
                self._add_features(leaves, back, rows)
            if self.weights[group] is not None:
                _accumulate(self.weights[group], flat.t(), features)
            if self.biases[group] is not None:
                self.biases[group] += own.sum((0, 1), dtype=self.biases[group].dtype)

    def _into_features(self, leaf: int, gradient: Tensor) -> Tensor:
        """The gradient of a leaf's features, given that of its logits."""
        own = next(n for n, (_, leaves) in enumerate(self.batch.groups) if leaf in leaves)
        return gradient.to(self.dtype) @ self.casted[own].weight

    def _add_features(self, leaves: List[int], gradient: Tensor, rows: slice) -> None:
        for leaf, piece in zip(leaves, gradient):
            if self.features[leaf] is not None:
                self.features[leaf][rows] += piece

    def cast(self) -> List[Optional[Tensor]]:
        """The gradients in the order and types of `_Batch.inputs`; ``None`` where frozen."""
        projections: List[Optional[Tensor]] = []
        for (projection, _), weight, bias in zip(self.batch.groups, self.weights, self.biases):
            projections.append(None if weight is None else weight.to(projection.weight.dtype))
            if projection.bias is not None:
                projections.append(None if bias is None else bias.to(projection.bias.dtype))
        return [*self.features, *projections, *self.gates.values()]


def _leaf(tensor: Tensor) -> Tensor:
    """The same values as a leaf of the graph, with a gradient of its own."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _gradients(
    total: Tensor, logits: Tensor, gates: Dict[str, Tensor], features: Sequence[Tensor]
) -> Tuple[Tensor, Dict[str, Tensor], Dict[int, Tensor]]:
    """Gradients of the logits, and of those gates and features that the terms read."""
    keyed = [*gates.items(), *enumerate(features)]
    wanted = [(key, tensor) for key, tensor in keyed if tensor.requires_grad]
    inputs = [logits, *(tensor for _, tensor in wanted)]
    of_logits, *others = torch.autograd.grad(total, inputs, allow_unused=True)
    found = [(key, grad) for (key, _), grad in zip(wanted, others) if grad is not None]
    by_name = {key: grad for key, grad in found if isinstance(key, str)}
    by_leaf = {key: grad for key, grad in found if isinstance(key, int)}
    return of_logits, by_name, by_leaf


def _room_for_gradient(parameter: Optional[Tensor], dtype: torch.dtype) -> Optional[Tensor]:
    """Zeros to add a gradient to, ``None`` for what is absent or frozen."""
    if parameter is None or not parameter.requires_grad:
        return None
    return torch.zeros_like(parameter, dtype=dtype)


def _accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total += left @ right`` with ``total`` in float32 or wider."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
