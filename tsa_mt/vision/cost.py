"""What a network costs: parameters, and multiply-accumulates per image.

Counted are convolutions and linear maps, as the literature does; normalisation, activations and
pooling are not.
"""

import math
from typing import List, NamedTuple

import torch
from torch import Tensor, nn

from tsa_mt.vision.model import TreeClassifier


class Cost(NamedTuple):
    """Cost of a network.

    Attributes:
        parameters: Number of trainable parameters.
        macs: Multiply-accumulates of one image's forward pass.
    """

    parameters: int
    macs: int

    def __truediv__(self, other: "Cost") -> "CostRatio":
        """This cost in terms of another."""
        return CostRatio(self.parameters / other.parameters, self.macs / other.macs)


class CostRatio(NamedTuple):
    """One cost in terms of another."""

    parameters: float
    macs: float


def training_cost(model: TreeClassifier) -> Cost:
    """Cost of what one training step runs: every node, every classifier, the fusion modules."""
    classifiers = sum(projection.weight.numel() for projection in model.projections)
    macs = _count(model, lambda images: model(images, branches=True))
    return Cost(_parameters(model), macs + classifiers)


def plain_cost(model: TreeClassifier) -> Cost:
    """Cost of the leader alone: the network that is kept."""
    network = model.backbone.plain(model.num_classes)
    images = model.backbone.image_size
    return Cost(_parameters(network), _count(network, network.forward, images))


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _count(module: nn.Module, run, size: int = 0) -> int:
    """Sums over all convolutions and linear maps that ``run`` calls."""
    counts: List[int] = []

    def hook(layer: nn.Module, inputs, output: Tensor) -> None:
        positions = output.numel()
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        else:
            fan_in = layer.in_features
        counts.append(positions * fan_in)

    layers = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(hook) for layer in layers]
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            run(torch.zeros(1, 3, *[size or module.backbone.image_size] * 2))
    finally:
        module.train(training)
        for handle in hooks:
            handle.remove()
    return sum(counts)
