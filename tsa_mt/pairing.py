"""A model with branches and the criterion that trains them belong together.

Under any other criterion fairseq would train the leader alone, and every record would call that
the method whose name stands in the options. `install` lets fairseq's trainer refuse the pair.
"""

import functools

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
    """Lets fairseq's trainer check what it is given; once."""
    build = Trainer.__init__
    if getattr(build, "checks_pairs", False):
        return

    @functools.wraps(build)
    def checked(self, cfg, task, model, criterion, *args, **kwargs):
        check(model, criterion)
        build(self, cfg, task, model, criterion, *args, **kwargs)

    checked.__dict__["checks_pairs"] = True
    Trainer.__init__ = checked
