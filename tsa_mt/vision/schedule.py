"""``--lr-scheduler multistep``: a learning rate that drops after given epochs."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import List

from fairseq.dataclass import FairseqDataclass
from fairseq.optim.lr_scheduler import FairseqLRScheduler, register_lr_scheduler
from omegaconf import II


@dataclass
class MultistepConfig(FairseqDataclass):
    """Options of the schedule."""

    milestones: List[int] = field(
        default_factory=lambda: [150, 225],
        metadata={"help": "epochs after which the learning rate drops, for instance 150,225"},
    )
    lr_decay: float = field(
        default=0.1, metadata={"help": "what the learning rate is multiplied with at a milestone"}
    )
    lr: List[float] = II("optimization.lr")


@register_lr_scheduler("multistep", dataclass=MultistepConfig)
class Multistep(FairseqLRScheduler):
    """``lr * lr_decay ** (milestones passed)``; milestone 150 means 150 epochs at the rate before.

    Args:
        cfg: Its options.
        optimizer: The optimizer whose rate it sets.

    Raises:
        ValueError: Milestones that do not increase, or a decay outside (0, 1].
    """

    def __init__(self, cfg: MultistepConfig, optimizer):
        super().__init__(cfg, optimizer)
        self.milestones = [int(epoch) for epoch in cfg.milestones]
        increasing = all(a < b for a, b in zip([0, *self.milestones], self.milestones))
        if not increasing:
            raise ValueError(
                f"--milestones is {','.join(map(str, self.milestones))}; it must be increasing "
                f"epoch numbers from 1 on, for instance 150,225"
            )
        if not 0.0 < cfg.lr_decay <= 1.0:
            raise ValueError(f"--lr-decay is {cfg.lr_decay}; it must be greater than 0, at most 1")
        self.lr = cfg.lr[0] if isinstance(cfg.lr, Collection) else cfg.lr
        self.optimizer.set_lr(self.lr)

    def step_begin_epoch(self, epoch: int) -> float:
        """Sets the rate of an epoch; the first epoch is 1.

        Returns:
            The learning rate.
        """
        passed = sum(epoch > milestone for milestone in self.milestones)
        self.optimizer.set_lr(self.lr * self.cfg.lr_decay**passed)
        return self.optimizer.get_lr()
