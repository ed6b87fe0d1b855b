"""MobileNetV3-Large for 32x32 images, as in the TSA paper's best CIFAR-100 row.

It differs from the ImageNet network in more than strides: squeeze-and-excitation comes last in a
block and is batch-normalised, blocks of stride 1 that change the width have a projection shortcut,
and the classifier's hidden layer is batch-normalised. A unit is an inverted-residual block.

Paper: https://arxiv.org/abs/1905.02244. Code compared with:
https://github.com/Linwenye/Tree-Supervised (``models/mobilenetv3.py`` at ba35668).
"""

from typing import List, NamedTuple, Tuple

from torch import Tensor, nn

from tsa_mt.vision.backbone import (
    Backbone,
    GlobalAverage,
    Pieces,
    initialise_convolutions,
    register_backbone,
)

LAST_CONVOLUTION = 960
HIDDEN = 1280


class Row(NamedTuple):
    """One block: kernel size, inner and output channels, squeeze, hard swish, stride."""

    kernel: int
    inner: int
    outputs: int
    squeeze: bool
    swish: bool
    stride: int


ROWS: Tuple[Row, ...] = (
    Row(3, 16, 16, False, False, 1),
    Row(3, 64, 24, False, False, 1),
    Row(3, 72, 24, False, False, 1),
    Row(5, 72, 40, True, False, 2),
    Row(5, 120, 40, True, False, 1),
    Row(5, 120, 40, True, False, 1),
    Row(3, 240, 80, False, True, 2),
    Row(3, 200, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 480, 112, True, True, 1),
    Row(3, 672, 112, True, True, 1),
    Row(5, 672, 160, True, True, 1),
    Row(5, 672, 160, True, True, 2),
    Row(5, 960, 160, True, True, 1),
)
EXTRA = ROWS[-1]
"""The block that branches deeper than the leader repeat."""


class SqueezeExcite(nn.Module):
    """Scales channels by what a bottleneck over their means says.

    Args:
        channels: Channels of the map.
        reduction: Factor by which the bottleneck is narrower.
    """

    def __init__(self, channels: int, reduction: int = 4):
        super().__init__()
        inner = channels // reduction
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Hardsigmoid(inplace=True),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Shape in, same shape out."""
        return images * self.se(images)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection, squeeze-and-excitation.

    Args:
        inputs: Channels of the input.
        row: The block's numbers.
    """

    def __init__(self, inputs: int, row: Row):
        super().__init__()
        swish = nn.Hardswish if row.swish else nn.ReLU
        self.conv1 = nn.Conv2d(inputs, row.inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(row.inner)
        self.nolinear1 = swish(inplace=True)
        self.conv2 = nn.Conv2d(
            row.inner,
            row.inner,
            row.kernel,
            stride=row.stride,
            padding=row.kernel // 2,
            groups=row.inner,
            bias=False,
        )
        self.bn2 = nn.BatchNorm2d(row.inner)
        self.nolinear2 = swish(inplace=True)
        self.conv3 = nn.Conv2d(row.inner, row.outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(row.outputs)
        self.se = SqueezeExcite(row.outputs) if row.squeeze else nn.Identity()
        self.residual = row.stride == 1
        self.shortcut = nn.Sequential()
        if self.residual and inputs != row.outputs:
            projection = nn.Conv2d(inputs, row.outputs, 1, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(row.outputs))

    def forward(self, images: Tensor) -> Tensor:
        """``(batch, inputs, height, width)`` to ``(batch, outputs, ...)``."""
        out = self.nolinear1(self.bn1(self.conv1(images)))
        out = self.nolinear2(self.bn2(self.conv2(out)))
        out = self.se(self.bn3(self.conv3(out)))
        return out + self.shortcut(images) if self.residual else out


class CifarMobileNetV3(nn.Module):
    """MobileNetV3-Large on 32x32 images.

    Args:
        rows: Its blocks.
        num_classes: Number of classes.
    """

    def __init__(self, rows: List[Row], num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.hs1 = nn.Hardswish(inplace=True)
        inputs, blocks = 16, []
        for row in rows:
            blocks.append(InvertedResidual(inputs, row))
            inputs = row.outputs
        self.bneck = nn.Sequential(*blocks)
        self.conv2 = nn.Conv2d(inputs, LAST_CONVOLUTION, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(LAST_CONVOLUTION)
        self.hs2 = nn.Hardswish(inplace=True)
        self.pool = GlobalAverage()
        self.linear3 = nn.Linear(LAST_CONVOLUTION, HIDDEN)
        self.bn3 = nn.BatchNorm1d(HIDDEN)
        self.hs3 = nn.Hardswish(inplace=True)
        self.linear4 = nn.Linear(HIDDEN, num_classes)
        initialise_convolutions(self)
        for linear in (self.linear3, self.linear4):
            nn.init.normal_(linear.weight, std=0.001)
            nn.init.zeros_(linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        """``(batch, 3, height, width)`` to logits ``(batch, classes)``."""
        images = self.bneck(self.hs1(self.bn1(self.conv1(images))))
        images = self.pool(self.hs2(self.bn2(self.conv2(images))))
        return self.linear4(self.hs3(self.bn3(self.linear3(images))))


def _build(num_classes: int, stages: Tuple[int, ...]) -> Pieces:
    extra = sum(stages) - len(ROWS)
    rows = [*ROWS[: len(ROWS) + min(extra, 0)], *[EXTRA] * max(extra, 0)]
    network = CifarMobileNetV3(rows, num_classes)
    return Pieces(
        network=network,
        stem=nn.Sequential(network.conv1, network.bn1, network.hs1),
        units=list(network.bneck),
        top=nn.Sequential(network.conv2, network.bn2, network.hs2),
        pool=nn.Sequential(network.pool, network.linear3, network.bn3, network.hs3),
        classifier=network.linear4,
    )


register_backbone(
    Backbone(
        name="mobilenetv3_large",
        stages=(5, 5, 5),
        build=_build,
        about="MobileNetV3-Large for 32x32 images, TSA's",
    )
)
