"""One update of a model, as fairseq's trainer makes it, with its cost."""

from argparse import Namespace
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Dict, List

import torch
from fairseq import optim
from fairseq.dataclass.configs import CommonConfig, DistributedTrainingConfig, OptimizationConfig
from torch import nn

from tsa_mt.plan.meter import Meter
from tsa_mt.plan.subject import Subject, trained

OPTIMIZERS: Dict[str, Dict[str, Any]] = {
    "adam": {
        "adam_betas": "(0.9, 0.98)",
        "adam_eps": 1e-8,
        "weight_decay": 1e-4,
        "use_old_adam": False,
        "fp16_adam_stats": False,
    },
    "sgd": {"momentum": 0.0, "weight_decay": 0.0},
    "momentum_sgd": {
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 5e-4,
        "no_decay_norms": False,
    },
}
"""The optimizers that can be planned with, and their options; values do not change the cost."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class UpdateCost:
    """What one update costs.

    Attributes:
        parameters: Numbers that are trained.
        kept: Numbers of an averaged copy of the model.
        frozen: Parameters of a frozen teacher.
        flops: Floating-point operations of all matrix products, convolutions and attentions,
            forward and backward, a multiply-accumulate being two.
        peak_bytes: Largest number of bytes live at one time.
        model_bytes: Of these: model, averages, teacher and batch.
        optimizer_bytes: Of these: the optimizer's states and copies.
        activation_bytes: What autograd holds between forward and backward.
    """

    parameters: int
    kept: int
    frozen: int
    flops: int
    peak_bytes: int
    model_bytes: int
    optimizer_bytes: int
    activation_bytes: int


def update_cost(
    subject: Subject, meter: Meter, optimizer: str, dtype: str = "fp32", update_freq: int = 1
) -> UpdateCost:
    """Makes one update.

    Args:
        subject: What is planned.
        meter: Counts; nothing else may run under it.
        optimizer: One of `OPTIMIZERS`.
        dtype: One of `DTYPES`; with fp16 and bf16 the model is in half precision and the
            optimizer has float32 copies of parameters and gradients, as in fairseq.
        update_freq: Batches per update.
    """
    before = meter.live
    model = subject.model()
    criterion = subject.criterion(model)
    for network in (model, *(teacher.model for teacher in criterion.teachers)):
        _cast(network, DTYPES[dtype])
    model.train()
    samples = [subject.batch(model) for _ in range(update_freq)]
    size = meter.live - before
    stepper = build_optimizer(optimizer, trained(model), dtype)
    copies = meter.live - before - size
    stepper.zero_grad()
    meter.start()
    held = [_accumulate(model, criterion, sample, stepper, meter) for sample in samples]
    flops, first = meter.flops, meter.peak
    settled = meter.live
    _step(stepper)
    states = meter.live - settled  # the first step makes them; from then on they are always there
    meter.start()
    _step(stepper)
    averaged = getattr(model, "averaged", None)
    return UpdateCost(
        parameters=sum(p.numel() for p in trained(model)),
        kept=0 if averaged is None else sum(b.numel() for b in averaged.buffers()),
        frozen=sum(p.numel() for teacher in criterion.teachers for p in teacher.model.parameters()),
        flops=flops,
        peak_bytes=max(first + states, meter.peak) - before,
        model_bytes=size,
        optimizer_bytes=copies + states,
        activation_bytes=max(held),
    )


def _cast(network: nn.Module, dtype: torch.dtype) -> None:
    """``network.to(dtype)``, which tensors without contents do not take; averages stay float32."""
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() and ".averaged." not in name:
            tensor.data = tensor.data.to(dtype)


def _accumulate(model: nn.Module, criterion: Any, sample: Any, stepper: Any, meter: Meter) -> int:
    """Forward and backward of one batch; what was held in between."""
    before = meter.live
    loss, _, logging = criterion(model, sample)
    held = meter.live - before
    stepper.backward(loss)
    del loss, logging
    return held


def _step(stepper: Any) -> None:
    stepper.multiply_grads(0.5)
    stepper.clip_grad_norm(0.0)
    stepper.step()


def build_optimizer(name: str, params: List[nn.Parameter], dtype: str) -> Any:
    """fairseq's optimizer, in half precision with float32 copies of everything."""
    config = Namespace(_name=name, lr=[1e-3], tpu=False, **OPTIMIZERS[name])
    kind = optim.OPTIMIZER_REGISTRY[name]
    if dtype == "fp32":
        return kind(config, params)
    copies = _float_copies(params, flat=dtype == "fp16")
    root = SimpleNamespace(
        common=CommonConfig(bf16=dtype == "bf16", fp16=dtype == "fp16"),
        optimization=OptimizationConfig(),
        distributed_training=DistributedTrainingConfig(distributed_world_size=1),
        optimizer=config,
    )
    inner = kind(config, list(copies.values()) if isinstance(copies, dict) else copies)
    return optim.FP16Optimizer(root, params, inner, copies)


def _float_copies(params: List[nn.Parameter], flat: bool) -> Any:
    """The float32 parameters with their gradients; ``--fp16`` has all of them in one tensor.

    `FP16Optimizer.build_fp32_params` makes them flat on a GPU only.
    """
    if not flat:
        return optim.FP16Optimizer.build_fp32_params(None, params, flatten=False)
    copy = nn.Parameter(torch.cat([p.data.float().view(-1) for p in params]))
    copy.grad = torch.empty_like(copy)
    return {None: copy}  # by device, which has no number here
