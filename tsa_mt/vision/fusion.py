"""Fusion modules for feature maps: what AHBF and ONE put between the branches of image networks.

The objectives themselves do not know what they fuse; a model hands them these builders. Sources:
class ``AHBF`` in https://github.com/linruigong965/AHBF
(``AHBF-pytorch/models/model_backbone/resnet_ahbf.py`` at 8d41235) and the gate of
https://github.com/Lan1991Xu/ONE_NeurIPS2018.
"""

import torch
from torch import Tensor, nn

from tsa_mt.objectives.fusion import ROWS, FusionModules, softmax


class MapMerge(nn.Module):
    """``BatchNorm(1x1 convolution of [first; second])``, without an activation.

    Args:
        first: Channels of the first map.
        second: Channels of the second map, and of the result.
    """

    def __init__(self, first: int, second: int):
        super().__init__()
        self.convolution = nn.Conv2d(first + second, second, 1)
        self.norm = nn.BatchNorm2d(second)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two ``(batch, channels, height, width)`` maps to one."""
        return self.norm(self.convolution(torch.cat([first, second], dim=1)))


class MapGate(nn.Module):
    """``softmax(ReLU(BatchNorm(W mean(map) + b)))``; the softmax in float32 or wider.

    Args:
        dim: Channels of the map.
        outputs: Number of weights.
    """

    def __init__(self, dim: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(dim, outputs)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Weights ``(batch, outputs)`` of maps ``(batch, dim, height, width)``."""
        return softmax(torch.relu(self.norm(self.linear(images.mean((2, 3))))))


MAPS = FusionModules(merge=MapMerge, gate=MapGate, trunk_gate=MapGate)
"""Fusion of feature maps."""

FEATURES = FusionModules(merge=ROWS.merge, gate=ROWS.gate, trunk_gate=MapGate)
"""Fusion of pooled features, for networks whose last map is not as wide as their features."""
