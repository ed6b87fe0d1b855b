"""What fairseq's trainer must know of a model with branches; `install` tells it.

* The model and the criterion that trains its branches belong together. Under any other criterion
  fairseq would train the leader alone, and every record would call that the method whose name
  stands in the options. The pair is refused.
* A model whose moving average ships validates with it, and the average chooses the checkpoint.
* A moving average moves right after the update. fairseq tells a model of an update when the next
  one begins, which is too late for what validates and is saved between the two.
* A ramp-up that may never end is told at once, and at the end what was reached.
"""

import contextlib
import functools
import logging
from multiprocessing.util import Finalize
from typing import Any, ContextManager, Dict

from fairseq.trainer import Trainer
from torch import nn

from tsa_mt.criterion import OnlineKDCriterion
from tsa_mt.objectives.consistency import check_noise
from tsa_mt.objectives.ramp import FULL, RampedObjective, doubt, length_known, progress
from tsa_mt.objectives.rows import Context

logger = logging.getLogger(__name__)


def check(model: nn.Module, criterion: nn.Module) -> None:
    """Refuses a model with an objective that would not do what its options say.

    Raises:
        ValueError: The criterion does not read the objective, or nothing tells its passes apart.
    """
    objective = getattr(model, "objective", None)
    if objective is None:
        return
    if isinstance(criterion, OnlineKDCriterion):
        check_noise(objective, model)
        return
    raise ValueError(
        f"{type(criterion).__name__} trains only the leader of tree '{model.tree}' and nothing of "
        f"objective {objective.name!r}; add --criterion online_kd (the plain network is --tree "
        f"chain --kd-objective independent under it, or a stock --arch)"
    )


def install() -> None:
    """Lets fairseq's trainer check what it is given, and keep and validate averages; once."""
    build, validate, count = Trainer.__init__, Trainer.valid_step, Trainer.set_num_updates
    if getattr(build, "checks_pairs", False):
        return

    @functools.wraps(build)
    def checked(self, cfg, task, model, criterion, *args, **kwargs):
        check(model, criterion)
        build(self, cfg, task, model, criterion, *args, **kwargs)
        warn_of_ramp(model, cfg)

    @functools.wraps(validate)
    def validated(self, *args, **kwargs):
        with shipping(self.get_model()):
            return validate(self, *args, **kwargs)

    @functools.wraps(count)
    def counted(self, num_updates):
        count(self, num_updates)
        model = self.get_model()
        if getattr(model, "averaged", None) is not None:
            model.averaged.follow(model, num_updates)
        _REACHED.update(_reached(model, num_updates, self.cfg.optimization.max_update))

    Finalize(None, _tell, exitpriority=9)
    checked.__dict__["checks_pairs"] = True
    Trainer.__init__, Trainer.valid_step, Trainer.set_num_updates = checked, validated, counted


def shipping(model: Any) -> ContextManager[None]:
    """A while in which a model has the weights that it ships with."""
    average = getattr(model, "averaged", None)
    if average is None or not model.objective.ships_average:
        return contextlib.nullcontext()
    return average.in_place(model)


_REACHED: Dict[str, str] = {}
"""What a ramp-up has not reached yet, by objective; empty strings where it has."""


def warn_of_ramp(model: nn.Module, cfg: Any) -> None:
    """Says before the first update that distillation may never have its weight."""
    objective = getattr(model, "objective", None)
    if objective is None:
        return
    ends = {
        "--patience": cfg.checkpoint.patience > 0,
        "--max-epoch": cfg.optimization.max_epoch > 0,
        "--stop-time-hours": cfg.optimization.stop_time_hours > 0,
        "--stop-min-lr": cfg.optimization.stop_min_lr > 0,
    }
    early = [flag for flag, given in ends.items() if given]
    sentence = doubt(objective, cfg.optimization.max_update or 0, early)
    if sentence:
        logger.warning(sentence)


def _reached(model: nn.Module, num_updates: int, max_update: int) -> Dict[str, str]:
    objective = getattr(model, "objective", None)
    max_update = max_update or 0
    if not isinstance(objective, RampedObjective) or not num_updates:
        return {}
    if not length_known(objective, max_update):
        return {}  # the criterion, which may know it, refuses the update otherwise
    weight = objective.ramp(Context(progress(objective, num_updates, max_update)))
    told = f"reached {weight:.1%} of its weight at update {num_updates:,}, where training ended"
    return {objective.name: "" if weight >= FULL else told}


def _tell() -> None:
    for name, told in _REACHED.items():
        if told:
            logger.disabled = False
            logger.warning("distillation of objective %r %s", name, told)
