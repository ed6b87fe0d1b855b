"""What the network costs that is kept after training."""

from dataclasses import dataclass
from typing import Dict

import torch

from tsa_mt.plan.meter import Meter
from tsa_mt.plan.subject import Subject, of_leader


@dataclass(frozen=True)
class LeaderCost:
    """What the leader of a tree costs.

    Attributes:
        parameters: Its parameters, tied ones once.
        flops_per_input: Floating-point operations of one sentence pair's (or image's) forward.
        flops_per_target: The same for each piece of the target sentence.
        bytes: Size of its exports, by type of their numbers.
    """

    parameters: int
    flops_per_input: int
    flops_per_target: float
    bytes: Dict[str, int]


def leader_cost(subject: Subject, meter: Meter) -> LeaderCost:
    """Runs the leader once; it is all of a model that is not under ``branches``."""
    model = subject.model().eval()
    own = of_leader(model.named_parameters())
    meter.start()
    with torch.no_grad():
        model(**subject.single())
    return LeaderCost(
        parameters=sum(parameter.numel() for _, parameter in own),
        flops_per_input=meter.flops,
        flops_per_target=meter.flops / subject.targets,
        bytes=subject.deployed_bytes(model),
    )
