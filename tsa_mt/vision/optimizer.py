"""``--optimizer momentum_sgd``: SGD as the vision papers use it.

fairseq's ``sgd`` has no Nesterov momentum and its ``nag`` is a variant of its own.
"""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Sequence

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II


@dataclass
class MomentumSGDConfig(FairseqDataclass):
    """Options of the optimizer."""

    momentum: float = field(default=0.9, metadata={"help": "momentum"})
    nesterov: bool = field(
        default=False,
        metadata={"help": "Nesterov's momentum (OKDDip and AHBF have it, TSA and ONE do not)"},
    )
    weight_decay: float = field(default=5e-4, metadata={"help": "weight decay"})
    no_decay_norms: bool = field(
        default=False,
        metadata={
            "help": "no weight decay on biases and normalisation (the papers' code decays all)"
        },
    )
    lr: List[float] = II("optimization.lr")


@register_optimizer("momentum_sgd", dataclass=MomentumSGDConfig)
class MomentumSGD(FairseqOptimizer):
    """Stochastic gradient descent with momentum and groups with and without weight decay.

    Args:
        cfg: Its options.
        params: Parameters to train.

    Raises:
        ValueError: Nesterov without momentum, or a negative value.
    """

    def __init__(self, cfg: MomentumSGDConfig, params):
        super().__init__(cfg)
        if not 0.0 <= cfg.momentum < 1.0:
            raise ValueError(f"--momentum is {cfg.momentum}; it must be in [0, 1)")
        if cfg.weight_decay < 0.0:
            raise ValueError(f"--weight-decay is {cfg.weight_decay}; it must be 0 or more")
        if cfg.nesterov and not cfg.momentum:
            raise ValueError("--nesterov needs --momentum greater than 0")
        self._optimizer = torch.optim.SGD(self._groups(list(params)), **self.optimizer_config)

    def _groups(self, params: List[torch.nn.Parameter]) -> List[Dict[str, Any]]:
        """Matrices and filters; and, when they are spared, the vectors among the parameters."""
        if not self.cfg.no_decay_norms:
            return [{"params": params}]
        groups: List[Dict[str, Any]] = [
            {"params": [p for p in params if p.ndim > 1]},
            {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    @property
    def optimizer_config(self) -> Dict[str, Any]:
        """Values that replace those of a checkpoint on resume."""
        return {
            "lr": self.cfg.lr[0] if isinstance(self.cfg.lr, Sequence) else self.cfg.lr,
            "momentum": self.cfg.momentum,
            "weight_decay": self.cfg.weight_decay,
            "nesterov": self.cfg.nesterov,
        }
