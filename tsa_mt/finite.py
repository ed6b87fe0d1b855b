"""A training whose figures are not finite ends, names them, and never replaces a good checkpoint.

fairseq forgets the best score so far when one is NaN (``min(nan, best)`` is NaN), so that a worse
checkpoint replaces the best one later. It saves weights that are NaN over the last good ones, and
of a gradient that is not finite it names no term. Here such a training ends with the status
`NOT_FINITE` and one sentence: which term of which leaf, at which update, and which sentence, where
one alone shows it. With ``--kd-accept-nan`` validation that is not finite is a warning, and
training goes on without saving until the figures are finite again.
"""

import functools
import logging
import math
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import torch
from fairseq import checkpoint_utils
from fairseq.trainer import Trainer

from tsa_mt.evaluate import recording

logger = logging.getLogger(__name__)

NOT_FINITE = 70
"""Exit status of a training that ended because figures were not finite."""
SHOWN = 8
UNBOUNDED = {"ppl"}
"""Figures that may overflow though the loss behind them is finite."""


def _end(reason: str) -> None:
    logger.disabled = False  # hydra's logging configuration disables loggers that exist
    logger.error(reason)
    recording.end("failed", reason)
    raise SystemExit(NOT_FINITE)


def _accepts(trainer: Trainer) -> bool:
    return bool(getattr(trainer.cfg.criterion, "kd_accept_nan", False))


def not_finite(figures: Dict[str, Any]) -> List[str]:
    """Names of the figures that are NaN or infinite."""
    return [
        name
        for name, value in figures.items()
        if name not in UNBOUNDED and not math.isfinite(float(value))
    ]


def broken_parameters(model: torch.nn.Module) -> List[str]:
    """Names of the parameters that hold a value that is not finite."""
    return [name for name, value in model.named_parameters() if not value.isfinite().all()]


def _some(names: Sequence[Any]) -> str:
    shown = ", ".join(map(str, names[:SHOWN]))
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


# --- in an update -------------------------------------------------------------------------------


def _explain_update(trainer: Trainer, samples: Sequence[Any], error: Exception) -> str:
    """Names what made the gradient of the next update infinite or NaN."""
    said = f"update {trainer.get_num_updates() + 1} was not done, {str(error).rstrip('.')}: "
    broken = broken_parameters(trainer.get_model())
    if broken:
        return f"{said}these parameters are not finite: {_some(broken)}"
    terms, sentences = set(), []
    for sample in samples:
        found = _broken_terms(trainer, sample)
        terms.update(found)
        sentences += _broken_sentences(trainer, sample) if found else []
    if not terms:
        return f"{said}every term is finite, their gradient is not"
    alone = f", of each of these sentences alone: {_some(sentences)}" if sentences else ""
    return f"{said}not finite are {_some(sorted(terms))}{alone}"


def _broken_terms(trainer: Trainer, sample: Any) -> List[str]:
    """Names of the figures of a batch that are not finite."""
    sample, is_dummy = trainer._prepare_sample(sample)
    if is_dummy:
        return []
    trainer._set_seed()
    figures = trainer.get_criterion()(trainer.get_model(), sample)[2]
    return not_finite({name: value for name, value in figures.items() if _is_number(value)})


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (torch.is_tensor(value) and value.numel() == 1)


def _broken_sentences(trainer: Trainer, sample: Dict[str, Any]) -> List[int]:
    """Numbers of the sentences (or images) of a batch whose figures alone are not finite."""
    dataset = trainer.task.dataset("train")
    numbers = [int(number) for number in sample.get("id", [])]
    return [n for n in numbers if _broken_terms(trainer, dataset.collater([dataset[n]]))]


def _explained(trainer: Trainer, samples: Sequence[Any], error: Exception) -> str:
    """The explanation, or fairseq's own words where looking for one fails."""
    try:
        return _explain_update(trainer, samples, error)
    except Exception as failure:
        logger.info("looking for the cause failed: %s: %s", type(failure).__name__, failure)
        return f"update {trainer.get_num_updates() + 1} was not done: {error}"


# --- in validation and before saving ------------------------------------------------------------


def _complaints(trainer: Trainer, val_loss: Any) -> Iterator[Tuple[str, List[str]]]:
    """What speaks against saving."""
    if val_loss is not None and not math.isfinite(val_loss):
        yield "the score that chooses the best checkpoint is", [str(val_loss)]
    broken = broken_parameters(trainer.get_model())
    if broken:
        yield "these parameters are not finite:", broken


def _guard(trainer: Trainer, val_loss: Any) -> bool:
    """Whether to save; ends the training if not, unless it shall go on."""
    update = trainer.get_num_updates()
    for what, names in _complaints(trainer, val_loss):
        reason = f"nothing is saved at update {update}, {what} {_some(names)}"
        if not _accepts(trainer):
            _end(f"{reason}; earlier checkpoints are as they were")
        logger.warning("%s; training goes on", reason)
        return False
    return True


def _guard_validation(trainer: Trainer, sample: Any, figures: Dict[str, Any]) -> None:
    names = not_finite({name: value for name, value in figures.items() if _is_number(value)})
    if not names:
        return
    numbers = [int(number) for number in (sample or {}).get("id", [])]
    where = f"in validation after update {trainer.get_num_updates()}, in a batch with sentences"
    reason = f"{where} {_some(numbers)}: not finite are {_some(names)}"
    if not _accepts(trainer):
        _end(f"{reason}; nothing is saved, earlier checkpoints are as they were")
    logger.warning("%s; training goes on", reason)


# --- the hooks ----------------------------------------------------------------------------------


def install() -> None:
    """Replaces the functions of fairseq that train, validate and save; once."""
    save, step, validate = (
        checkpoint_utils.save_checkpoint,
        Trainer.train_step,
        Trainer.valid_step,
    )
    if getattr(save, "only_finite", False):
        return

    @functools.wraps(save)
    def save_finite(cfg, trainer, epoch_itr, val_loss):
        return save(cfg, trainer, epoch_itr, val_loss) if _guard(trainer, val_loss) else None

    @functools.wraps(step)
    def explained_step(self, samples, *args, **kwargs):
        try:
            return step(self, samples, *args, **kwargs)
        except FloatingPointError as error:
            reason = _explained(self, samples, error)
        _end(f"{reason}; crash.pt holds the state, checkpoint_last.pt is as it was")

    @functools.wraps(validate)
    def guarded_step(self, sample, *args, **kwargs):
        figures = validate(self, sample, *args, **kwargs)
        _guard_validation(self, sample, figures or {})
        return figures

    save_finite.__dict__["only_finite"] = True
    checkpoint_utils.save_checkpoint = save_finite
    Trainer.train_step, Trainer.valid_step = explained_step, guarded_step
