"""``--criterion online_kd``: the one criterion, for text and for images.

It asks the model for the features of every leaf, drops pad positions, lets the head evaluate the
model's objective on the remaining rows, and adds the terms up. It has no parameters: whatever an
objective trains lives in the model.

What is logged as ``loss``, ``nll_loss``, ``ppl`` and ``accuracy`` is the leader's, in training and
in validation, and compares with a plain model under ``label_smoothed_cross_entropy``. The total
that is optimised and the per-leaf figures have names of their own.
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ContextManager, Dict, List, Optional, Tuple

import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.logging import metrics
from omegaconf import II, OmegaConf
from torch import Tensor

from tsa_mt.branches import Projection, TeacherOutputs
from tsa_mt.contracts import Teaching, TreeModel
from tsa_mt.dropout import cheapen
from tsa_mt.head import HeadResult, branch_head
from tsa_mt.memory import keep_freed_memory
from tsa_mt.objectives import functional as F
from tsa_mt.objectives.base import Objective
from tsa_mt.objectives.consistency import inputs_of, passes_of
from tsa_mt.objectives.fusion import gate_statistics
from tsa_mt.objectives.ramp import RampedObjective, progress
from tsa_mt.objectives.registry import find_objective
from tsa_mt.objectives.rows import PER_ROW, Context, Rows
from tsa_mt.precision import CHOICES, Precision, settle
from tsa_mt.row_share import draw_rows, shared_head
from tsa_mt.teacher import TeacherPass, load_teachers
from tsa_mt.vitals import REST, TASK, entropy, headroom

RESOLVER = "tsa_mt.model"
ENSEMBLE_BLEU = "_ensemble_bleu_"
"""Prefix of logged counts; fairseq does not print what starts with an underscore."""


def _model_option(name: str, _root_: Any) -> Any:
    """Value of a model option, or ``None`` where the model does not have it."""
    model = OmegaConf.select(_root_, "model")
    return None if model is None else OmegaConf.select(model, name)


OmegaConf.register_new_resolver(RESOLVER, _model_option, replace=True)


@dataclass
class OnlineKDConfig(FairseqDataclass):
    """Options of the criterion; the objective's own options belong to the model."""

    label_smoothing: float = field(
        default=0.0,
        metadata={"help": "epsilon for label smoothing, 0 means no label smoothing"},
    )
    ignore_prefix_size: int = field(
        default=0, metadata={"help": "ignore the first N tokens of every target"}
    )
    kd_chunk_rows: Optional[int] = field(
        default=None,
        metadata={
            "help": "rows per chunk of the branch head [unset = sized to the cache; 0 = one chunk "
            "and plain autograd, the slow reference]"
        },
    )
    kd_row_share: float = field(
        default=1.0,
        metadata={
            "help": "share of the rows (target tokens, images) that every update draws for all "
            "terms but the leader's task loss, which keeps all rows; their sum is scaled, so that "
            "the gradient is right on average [1 = all rows, as published]"
        },
    )
    kd_eval_ensemble: bool = field(
        default=False,
        metadata={
            "help": "with --eval-bleu, translate the validation set with all leaves together as "
            "well and log bleu_ensemble; costs about as many times the leader's decoding as there "
            "are leaves"
        },
    )
    kd_accept_nan: bool = field(
        default=False,
        metadata={
            "help": "go on training when validation or weights are not finite; nothing is saved "
            "until they are again [default: the training ends]"
        },
    )
    kd_precision: ChoiceEnum(CHOICES) = field(  # type: ignore[valid-type]
        default="float32",
        metadata={
            "help": "arithmetic of matrix products; auto = bfloat16 where one product of each "
            "kind, timed at the start, says that it is clearly faster; weights, optimizer and "
            "losses stay float32"
        },
    )
    kd_eager: bool = field(
        default=False,
        metadata={"help": "do not compile the losses: no wait at the first update, slower updates"},
    )
    kd_cheap_dropout: bool = field(
        default=False,
        metadata={
            "help": "draw dropout masks four at a time on a CPU: up to a tenth faster, with other "
            "masks than stock fairseq draws from the same seed"
        },
    )
    kd_end_on_full_disk: bool = field(
        default=False,
        metadata={
            "help": "end the training when a checkpoint cannot be saved because the disk is full "
            "[default: warn, go on, and end with status 74 if the last save fails too]"
        },
    )
    sentence_avg: bool = II("optimization.sentence_avg")
    max_update: int = II("optimization.max_update")
    seed: int = II("common.seed")
    fp16: bool = II("common.fp16")
    bf16: bool = II("common.bf16")
    amp: bool = II("common.amp")
    kd_objective: Optional[str] = "${" + RESOLVER + ":kd_objective}"
    kd_teacher: Optional[str] = "${" + RESOLVER + ":kd_teacher}"


@register_criterion("online_kd", dataclass=OnlineKDConfig)
class OnlineKDCriterion(FairseqCriterion):
    """Sum of the terms of the model's objective; see the module's docstring.

    Built by a program rather than by fairseq's command line, it leaves the arithmetic as it is and
    compiles nothing, unless it is told to.
    """

    def __init__(
        self,
        task: Any,
        sentence_avg: bool,
        max_update: int,
        label_smoothing: float = 0.0,
        ignore_prefix_size: int = 0,
        kd_chunk_rows: Optional[int] = None,
        kd_row_share: float = 1.0,
        kd_eval_ensemble: bool = False,
        seed: int = 1,
        kd_precision: Optional[str] = None,
        kd_eager: bool = True,
        kd_cheap_dropout: bool = False,
        fp16: bool = False,
        bf16: bool = False,
        amp: bool = False,
        kd_objective: Optional[str] = None,
        kd_teacher: Optional[str] = None,
        kd_accept_nan: bool = False,
        kd_end_on_full_disk: bool = False,
    ):
        super().__init__(task)
        if kd_objective is None:
            raise ValueError(
                "--criterion online_kd needs a model with branches, and the chosen --arch is none; "
                "use --arch tree_transformer or one of its sizes (with --tree chain it is the "
                "plain network), or keep your --arch with --criterion label_smoothed_cross_entropy"
            )
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"--label-smoothing is {label_smoothing}; it must be in [0, 1)")
        if kd_chunk_rows is not None and kd_chunk_rows < 0:
            raise ValueError(f"--kd-chunk-rows is {kd_chunk_rows}; it must be 0 or more")
        if not 0.0 < kd_row_share <= 1.0:
            raise ValueError(f"--kd-row-share is {kd_row_share}; it must be above 0 and at most 1")
        if kd_eval_ensemble and not getattr(getattr(task, "cfg", None), "eval_bleu", False):
            raise ValueError(
                "--kd-eval-ensemble needs --eval-bleu, which says how translations are scored "
                "(an image classifier logs accuracy_ensemble without being asked)"
            )
        half = [flag for flag, on in (("fp16", fp16), ("bf16", bf16), ("amp", amp)) if on]
        if half and kd_precision not in (None, "float32"):
            raise ValueError(
                f"--kd-precision {kd_precision} and --{half[0]} both set the arithmetic; leave out "
                f"one of them (--{half[0]} is meant for GPUs)"
            )
        self.kd_precision = None if half else kd_precision
        self.compiled = not kd_eager
        self.cheap_dropout = kd_cheap_dropout
        self._precision: Optional[Precision] = None
        self.eval_ensemble = kd_eval_ensemble
        self.sentence_avg = sentence_avg
        self.max_update = max_update
        self.label_smoothing = label_smoothing
        self.ignore_prefix_size = ignore_prefix_size
        self.kd_chunk_rows = kd_chunk_rows
        self.row_share = kd_row_share
        self.seed = seed
        taught = find_objective(kd_objective).needs_teacher
        loaded = load_teachers(kd_teacher or "", task) if taught else []
        self.teachers: List[Teaching] = list(loaded)

    def forward(
        self, model: TreeModel, sample: Dict[str, Any], reduce: bool = True
    ) -> Tuple[Tensor, int, Dict[str, Any]]:
        """Computes the loss of a batch.

        Returns:
            The loss summed over target tokens (or images), the sample size to divide it by, and
            the logging output: sums, with the same keys on every worker.
        """
        if self.cheap_dropout:
            cheapen(model)  # type: ignore[arg-type]  # a module as well
        with self._arithmetic(sample):
            result, rows = self.compute(model, sample)
        sample_size = sample["target"].size(0) if self.sentence_avg else sample["ntokens"]
        logging = {
            "total_loss": result.total.detach(),
            **{f"loss_{name}": value for name, value in result.terms.items()},
            **result.statistics,
            "rows": rows,
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample_size,
            **(self._ensemble_bleu(model, sample) if self._decodes(model) else {}),
        }
        return result.total, sample_size, logging

    def precision(self, device: str) -> Optional[Precision]:
        """The arithmetic of products, settled at the first call; ``None`` where nobody chose one.

        The process then keeps the memory that it frees.

        Args:
            device: Type of the device that trains.
        """
        if self._precision is None and self.kd_precision is not None:
            keep_freed_memory()
            self._precision = settle(self.kd_precision, device)
        return self._precision

    def use(self, precision: Precision) -> None:
        """Computes in this arithmetic, whatever the options say."""
        self._precision = precision

    def _arithmetic(self, sample: Dict[str, Any]) -> ContextManager[Any]:
        """Products run in the chosen arithmetic within it."""
        device = sample["target"].device.type
        precision = self.precision(device)
        if precision is None:
            return nullcontext()
        inputs = sample["net_input"].values()
        sentences = [each for each in inputs if isinstance(each, Tensor) and each.dim() == 2]
        return precision.products(device, max([each.shape[1] for each in sentences], default=0))

    def _decodes(self, model: TreeModel) -> bool:
        """Whether all leaves together translate this batch; with one leaf there is no ensemble."""
        return self.eval_ensemble and not self.training and len(model.tree.leaves) > 1

    def _ensemble_bleu(self, model: TreeModel, sample: Dict[str, Any]) -> Dict[str, Any]:
        """What a BLEU over the whole set needs to know of this batch; as fairseq's own task."""
        with model.deciding_together():
            bleu = self.task._inference_with_bleu(self.task.sequence_generator, sample, model)
        matches = [(f"counts_{n}", count) for n, count in enumerate(bleu.counts)]
        matches += [(f"totals_{n}", count) for n, count in enumerate(bleu.totals)]
        matches += [("sys_len", bleu.sys_len), ("ref_len", bleu.ref_len)]
        return {f"{ENSEMBLE_BLEU}{name}": count for name, count in matches}

    def compute(self, model: TreeModel, sample: Dict[str, Any]) -> Tuple[HeadResult, int]:
        """Runs the model and the head.

        Returns:
            The head's result and the number of rows (targets that are not padding).
        """
        objective, net_input = model.objective, sample["net_input"]
        averaged = self._run_average(model, net_input)
        passes = self._run_teachers(model, net_input)
        bridged = {"teacher": passes[0]} if objective.needs_bridge else {}
        outputs = model(**inputs_of(objective, net_input), branches=True, **bridged)
        target = model.get_targets(sample, outputs)
        keep = target.ne(self.padding_idx)
        if self.ignore_prefix_size:
            keep[:, : self.ignore_prefix_size] = False
        kept, target = outputs.rows(keep), target[keep]
        context = self._context(model)
        own = model.projections * passes_of(objective)
        head = partial(branch_head, compiled=self.compiled)
        if self.training and self.row_share < 1.0:
            update = model.num_updates
            drawn = draw_rows(sample["id"], keep, self.row_share, self.seed, update)
            head = partial(shared_head, drawn=drawn, share=self.row_share)
        result = head(
            objective,
            kept,
            own + ([self._bridge_projection(model)] if bridged else []),
            target,
            context,
            chunk_rows=self.kd_chunk_rows,
            observer=partial(self._observe, model),
            teachers=averaged.rows(keep) if averaged else self._taught_rows(passes, keep),
        )
        logged = gate_statistics(kept.gates, objective.leaves)
        if isinstance(objective, RampedObjective):
            logged["ramp"] = result.total.new_tensor(target.shape[0] * objective.ramp(context))
        result.statistics.update({f"{PER_ROW}{name}": value for name, value in logged.items()})
        return result, target.shape[0]

    def _bridge_projection(self, model: TreeModel) -> Projection:
        """The bridge's own projection where it has one, else the teacher's."""
        return model.bridge_projection or self.teachers[0].projection

    def _run_teachers(self, model: TreeModel, net_input: Dict[str, Tensor]) -> List[TeacherPass]:
        if not self.teachers:
            return []
        passes = [teacher.run(net_input, next(model.parameters())) for teacher in self.teachers]
        if model.objective.needs_bridge:
            return passes
        return [replace(each, hidden=[], encoded={}) for each in passes]  # frees the memory

    def _run_average(
        self, model: TreeModel, net_input: Dict[str, Tensor]
    ) -> Optional[TeacherOutputs]:
        if model.objective.average_decay is None:
            return None
        return model.averaged_teachers(net_input)

    def _taught_rows(self, passes: List[TeacherPass], keep: Tensor) -> Optional[TeacherOutputs]:
        if not passes:
            return None
        projections = [teacher.projection for teacher in self.teachers]
        return TeacherOutputs([each.features for each in passes], projections).rows(keep)

    def _context(self, model: TreeModel) -> Context:
        """Validation has every term at its full weight, so that its totals compare over time."""
        if not self.training:
            return Context(label_smoothing=self.label_smoothing)
        done = progress(model.objective, model.num_updates, self.max_update)
        started = model.num_updates >= model.objective.config.start
        return Context(done, self.label_smoothing, started)

    def _observe(self, model: TreeModel, rows: Rows, first: bool) -> Dict[str, Tensor]:
        """Statistics of a chunk; how alike the leaves are is sampled from one chunk in training.

        Extra leaves of the objective and further passes, which follow, are not observed. A model
        may add ``statistics`` of its own, counts called ``correct_...`` among them.
        """
        own, leaves = getattr(model, "statistics", None), model.objective.leaves
        nll, smoothed, correct = self._likelihoods(rows, leaves)
        compared = len(rows.targets) if first or not self.training else 0
        every = rows.log_probs() if compared else rows.logits()[:, :0]
        alike = every.detach()[:leaves]
        return {
            "loss": smoothed,
            "nll_loss": nll[0],
            "n_correct": correct,
            **{f"nll_b{leaf}": value for leaf, value in enumerate(nll)},
            "agreement": F.agreement(alike.argmax(-1)),
            "kl_leaves": F.mean_pairwise_kl(alike),
            "headroom": headroom(alike, rows.targets[:compared]),
            **self._softness(model.objective, rows, compared),
            "rows_compared": rows.targets.new_tensor(compared),
            **({} if own is None else own(rows)),
        }

    def _likelihoods(self, rows: Rows, leaves: int) -> Tuple[Tensor, Tensor, Tensor]:
        """Sums over rows: every leaf's negative log-likelihood, the leader's loss and hits."""
        if rows.sums is not None:
            return rows.sums.nll[:leaves], rows.sums.smoothed, rows.sums.correct
        log_probs, target = rows.log_probs().detach()[:leaves], rows.targets
        smoothed = F.cross_entropy(log_probs[:1], target, self.label_smoothing)[0]
        correct = (log_probs[0].argmax(-1) == target).sum()
        return F.cross_entropy(log_probs, target), smoothed, correct

    def _softness(self, objective: Objective, rows: Rows, compared: int) -> Dict[str, Tensor]:
        """Entropy of the softened distributions that are imitated; nothing without any."""
        temperature = getattr(objective.config, "temperature", None)
        if temperature is None:
            return {}
        if not compared:
            return {"entropy": rows.targets.new_zeros((), dtype=torch.float)}
        imitated = rows.teacher if objective.needs_teacher else rows
        log_probs = imitated.log_probs(temperature=temperature).detach()
        return {"entropy": entropy(log_probs[: objective.leaves, :compared])}

    @classmethod
    def reduce_metrics(cls, logging_outputs: List[Dict[str, Any]]) -> None:
        """Aggregates the logging outputs of all workers into fairseq's meters."""

        def total(key: str) -> Any:
            return sum(log.get(key, 0) for log in logging_outputs)

        if not logging_outputs:
            return
        sample_size, ntokens, rows = total("sample_size"), total("ntokens"), total("rows")
        for key in logging_outputs[0]:
            if key == "loss" or key == "total_loss" or key.startswith("loss_"):
                metrics.log_scalar(key, _bits(total(key), sample_size), sample_size, round=3)
            elif key.startswith("nll_"):
                metrics.log_scalar(key, _bits(total(key), ntokens), ntokens, round=3)
            elif key.startswith("correct_"):
                _log_share(f"accuracy_{key.removeprefix('correct_')}", total(key))
            elif key.startswith(PER_ROW):
                mean = total(key) / max(rows, 1)
                metrics.log_scalar(key.removeprefix(PER_ROW), mean, rows, round=4)
        _log_similarity(total("agreement"), total("kl_leaves"), total("rows_compared"))
        keys = logging_outputs[0]
        _log_headroom(
            total("headroom"), total("rows_compared"), sum("nll_b" in key for key in keys)
        )
        if "entropy" in keys:
            _log_softness(total("entropy"), total("rows_compared"))
        for leaf in range(sum(key.startswith(TASK) for key in keys)):
            _log_pressure(leaf, total(f"{TASK}{leaf}"), total(f"{REST}{leaf}"))
        _log_accuracy(total("n_correct"), rows)
        _log_ensemble_bleu({key: total(key) for key in _ensemble_keys(logging_outputs[0])})
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["nll_loss"].avg))

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """All logging outputs are sums with fixed keys."""
        return True


def _bits(nats: Any, count: Any) -> Any:
    """Average in bits (fairseq logs base 2); 0 for an empty batch."""
    return nats / count / math.log(2) if count else 0.0


def _log_similarity(agreement_sum: Any, kl_sum: Any, rows: Any) -> None:
    """Share of rows on which two leaves agree, in percent, and KL between two leaves in bits."""
    if rows > 0:
        metrics.log_scalar("agreement", 100.0 * agreement_sum / rows, rows, round=2)
        metrics.log_scalar("kl_leaves", _bits(kl_sum, rows), rows, round=4)


def _log_headroom(nats: Any, rows: Any, leaves: int) -> None:
    """What the ensemble is better than its leaves, in bits, and the ensemble's own nll."""
    if rows <= 0 or leaves < 2:
        return
    metrics.log_scalar("headroom", _bits(nats, rows), rows, round=4)

    def ensemble(meters: Any) -> float:
        mean = sum(meters[f"nll_b{leaf}"].avg for leaf in range(leaves)) / leaves
        return float(round(utils.item(mean - meters["headroom"].avg), 3))

    metrics.log_derived("nll_ensemble", ensemble)


def _log_softness(nats: Any, rows: Any) -> None:
    if rows > 0:
        metrics.log_scalar("_entropy", nats / rows, rows)
        metrics.log_derived(
            "effective_classes", lambda meters: round(math.exp(meters["_entropy"].avg), 1)
        )


def _log_pressure(leaf: int, task: Any, rest: Any) -> None:
    """Norm of the other terms' gradient over that of the task's, in the features of a leaf."""
    metrics.log_scalar_sum(f"_{TASK}{leaf}", utils.item(task))
    metrics.log_scalar_sum(f"_{REST}{leaf}", utils.item(rest))

    def ratio(meters: Any) -> float:
        task, rest = (meters[f"_{name}{leaf}"].sum for name in (TASK, REST))
        return round(math.sqrt(rest / task), 4) if task else 0.0

    metrics.log_derived(f"pressure_b{leaf}", ratio)


def _ensemble_keys(log: Dict[str, Any]) -> List[str]:
    return [key for key in log if key.startswith(ENSEMBLE_BLEU)]


def _log_ensemble_bleu(sums: Dict[str, Any]) -> None:
    """BLEU of all leaves together, over all batches; as fairseq logs ``bleu``."""
    if not sums:
        return
    for key, value in sums.items():
        metrics.log_scalar_sum(key, utils.item(value))
    orders = sorted(key for key in sums if "counts_" in key)

    def compute(meters: Any) -> float:
        from sacrebleu.metrics import BLEU

        score = BLEU.compute_bleu(
            correct=[meters[key].sum for key in orders],
            total=[meters[key.replace("counts_", "totals_")].sum for key in orders],
            sys_len=int(meters[f"{ENSEMBLE_BLEU}sys_len"].sum),
            ref_len=int(meters[f"{ENSEMBLE_BLEU}ref_len"].sum),
            smooth_method="exp",
        )
        return round(score.score, 2)

    metrics.log_derived("bleu_ensemble", compute)


def _log_accuracy(correct: Any, rows: Any) -> None:
    """Accuracy of the leader in percent."""
    metrics.log_scalar_sum("_n_rows", utils.item(rows))
    _log_share("accuracy", correct)


def _log_share(name: str, count: Any) -> None:
    """Share of rows in percent, exact over batches of any size."""
    metrics.log_scalar_sum(f"_n_{name}", utils.item(count))
    metrics.log_derived(
        name,
        lambda meters: round(100.0 * meters[f"_n_{name}"].sum / max(1, meters["_n_rows"].sum), 3),
    )


__all__ = ["OnlineKDConfig", "OnlineKDCriterion"]
