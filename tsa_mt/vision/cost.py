"""What a network costs: parameters, and multiply-accumulates per image.

Counted are convolutions and linear maps, as the literature does; normalisation, activations and
pooling are not.
"""

import math
from typing import List, NamedTuple, Optional

import torch
from torch import Tensor, nn

from tsa_mt.vision.model import TreeClassifier
from tsa_mt.vision.teacher import ImageTeacher


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


def training_cost(model: TreeClassifier, teacher: Optional[ImageTeacher] = None) -> Cost:
    """Cost of what one training step trains: every node, every classifier, the fusion modules.

    Args:
        model: The tree.
        teacher: What SOKD's bridge reads, for a model that has one. The bridge is counted, the
            teacher is not: it is not trained.

    Raises:
        ValueError: The model's objective has a bridge, and no teacher is given.
    """
    if model.objective.needs_bridge and teacher is None:
        raise ValueError(
            f"the cost of objective {model.objective.name!r} depends on its teacher: pass it"
        )
    projections = list(model.projections)
    if teacher is not None:
        projections.append(model.bridge_projection)

    def run(images: Tensor) -> None:
        passed = None if teacher is None else teacher.run({"images": images}, images)
        model(images, branches=True, teacher=passed)

    classifiers = sum(projection.weight.numel() for projection in projections)
    return Cost(_parameters(model), _count(model, run) + classifiers)


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
