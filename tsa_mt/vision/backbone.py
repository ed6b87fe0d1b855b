"""What a plain image network must say about itself to be grown into a tree.

A network is a stem, a row of *units* (residual blocks, convolution layers, whatever its family
counts in), a top and a pooling that turn the last map into one feature vector, and a classifier.
Trees count in units. A `Backbone` can build the network with longer or shorter stages, which is how
the longer branches of a ladder get blocks of the right kind and every copy its own random start.
"""

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

GROWTH_STEP = 4
"""Units that a branch deeper than the leader gives to one stage before the next one has its turn;
AHBF's step between branches (``-a 4`` in its README)."""

Classifier = Union[nn.Linear, nn.Conv2d]
"""The last layer: linear, or a 1x1 convolution."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """A plain network taken apart; the parts are the network's own modules.

    Attributes:
        network: The whole, whose parameter names are the leader's.
        stem: Images ``(batch, 3, height, width)`` to the first map.
        units: What the tree counts, in order.
        top: What the last map goes through before it is pooled; often nothing.
        pool: That map to features ``(batch, dim)``.
        classifier: A linear layer (or a 1x1 convolution) from features to logits.
    """

    network: nn.Module
    stem: nn.Module
    units: Sequence[nn.Module]
    top: nn.Module
    pool: nn.Module
    classifier: Classifier

    @property
    def feature_dim(self) -> int:
        """Width of the features that the classifier reads."""
        return self.classifier.weight.shape[1]


Builder = Callable[[int, Tuple[int, ...]], Pieces]
"""Builds the network: (number of classes, units per stage) to its pieces."""


@dataclass(frozen=True)
class Backbone:
    """A family member, for instance ResNet-32.

    Attributes:
        name: Name without ``tree_``.
        stages: Units per stage.
        build: Builds the plain network.
        about: One line: what it is and whose.
        image_size: Side of the images it is published with, in pixels.
        cuts: Units of the root, the middle and the last level of TSA's 1-2-4 tree; unset = thirds.
        growth: Stages (by index) that take the extra units of deeper branches in turn; unset = the
            last one.
        fork: Units that OKDDip's and ONE's branches have of their own; unset = the last stage.
        ladder: Units that AHBF's leader has of its own; unset = the last stage.
    """

    name: str
    stages: Tuple[int, ...]
    build: Builder
    about: str
    image_size: int = 32
    cuts: Optional[Tuple[int, int, int]] = None
    growth: Tuple[int, ...] = ()
    fork: Optional[int] = None
    ladder: Optional[int] = None

    @property
    def depth(self) -> int:
        """Number of units."""
        return sum(self.stages)

    def plain(self, num_classes: int) -> nn.Module:
        """The plain network, newly initialised."""
        return self.build(num_classes, self.stages).network

    def stages_for(self, start: int, stop: int) -> Tuple[int, ...]:
        """Units per stage of a branch whose own units span ``range(start, stop)``.

        A longer branch is the network with longer stages, a shorter one has a shorter last stage.

        Raises:
            ValueError: The branch ends before the last stage, whose width the leaves share.
        """
        stages = list(self.stages)
        extra = stop - self.depth
        if extra < 0:
            stages[-1] += extra
            if stages[-1] < 1:
                raise ValueError(
                    f"a branch that is {stop} units deep ends before the last stage of "
                    f"{self.name}, whose features all leaves share; make it at least "
                    f"{self.depth - self.stages[-1] + 1} units deep"
                )
            return tuple(stages)
        turn = self._growing(start)
        for step, first in enumerate(range(0, extra, GROWTH_STEP)):
            stages[turn[step % len(turn)]] += min(GROWTH_STEP, extra - first)
        return tuple(stages)

    def _growing(self, start: int) -> List[int]:
        """The stages that may grow in a branch that starts at unit ``start``."""
        last = len(self.stages) - 1
        ends = [sum(self.stages[: stage + 1]) for stage in range(last + 1)]
        return [stage for stage in self.growth if ends[stage] > start] or [last]


BACKBONES: Dict[str, Backbone] = {}
"""Every backbone by name."""


def register_backbone(backbone: Backbone) -> Backbone:
    """Makes a backbone available as ``--arch tree_NAME``.

    Raises:
        ValueError: The name is taken.
    """
    if backbone.name in BACKBONES:
        raise ValueError(f"backbone {backbone.name!r} is registered twice")
    BACKBONES[backbone.name] = backbone
    return backbone


def find_backbone(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
        ValueError: There is none; the message lists the known ones.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}; choose one of {', '.join(BACKBONES)}")
    return BACKBONES[name]


class GlobalAverage(nn.Module):
    """Mean over all positions of a map, ``(batch, dim)``, for any image size."""

    def forward(self, images: Tensor) -> Tensor:
        """``(batch, dim, height, width)`` to ``(batch, dim)``."""
        return images.mean((2, 3))


def initialise_convolutions(network: nn.Module) -> None:
    """Kaiming's normal initialisation over the fan-out, which all four papers' code uses."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def run_units(units: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Runs units one after the other."""
    for unit in units:
        images = unit(images)
    return images


def stacked_logits(classifier: Classifier, features: Tensor) -> Tensor:
    """Logits ``(batch, classes)`` of features, for linear and 1x1-convolution classifiers."""
    return torch.nn.functional.linear(features, classifier.weight.flatten(1), classifier.bias)
