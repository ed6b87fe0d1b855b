"""What fairseq's trainer must know of a model with branches; `install` tells it.

* The model and the criterion that trains its branches belong together. Under any other criterion
  fairseq would train the leader alone, and every record would call that the method whose name
  stands in the options. The pair is refused.
* A model whose moving average ships validates with it, and the average chooses the checkpoint.
* A moving average moves right after the update. fairseq tells a model of an update when the next
  one begins, which is too late for what validates and is saved between the two.
"""

import contextlib
import functools
from typing import ContextManager

from fairseq.trainer import Trainer
from torch import nn

from tsa_mt.criterion import OnlineKDCriterion
from tsa_mt.objectives.consistency import check_noise


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

    checked.__dict__["checks_pairs"] = True
    Trainer.__init__, Trainer.valid_step, Trainer.set_num_updates = checked, validated, counted


def shipping(model: nn.Module) -> ContextManager[None]:
    """A while in which a model has the weights that it ships with."""
    average = getattr(model, "averaged", None)
    ships = average is not None and model.objective.ships_average
    return average.in_place(model) if ships else contextlib.nullcontext()
