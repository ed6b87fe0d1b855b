"""Residual networks for 32x32 images: ResNet-20 to 110 of He et al., and OKDDip's bottleneck ones.

"ResNet-110" is three different networks in the literature. ``resnet110`` is the original one with
54 basic blocks (1.74 M parameters); ``resnet110_bottleneck`` is what the OKDDip and AHBF code calls
ResNet-110: 36 bottleneck blocks (1.17 M); ``resnet164``, 54 bottleneck blocks (1.73 M), is what
ONE's code and TSA's trees call so. ``wrn20_8`` is OKDDip's "WRN-20-8": the bottleneck network with
two blocks a stage and inner convolutions eight times as wide.

Parameter names are those of torchvision's ResNet (``conv1``, ``bn1``, ``layer1.0.conv1`` ...,
``fc``), which the OKDDip and AHBF code uses too, so that state dicts go both ways. A unit is a
residual block.

Paper: https://arxiv.org/abs/1512.03385. Code compared with:
https://github.com/DefangChen/OKDDip-AAAI2020 (``models/model_cifar/resnet.py`` at c6a05de).
"""

from typing import List, Optional, Tuple, Type, Union

from torch import Tensor, nn

from tsa_mt.vision.backbone import (
    Backbone,
    GlobalAverage,
    Pieces,
    initialise_convolutions,
    register_backbone,
)

WIDTHS = (16, 32, 64)


def _shortcut(inputs: int, outputs: int, stride: int) -> Optional[nn.Sequential]:
    """A projection where a block changes the shape, ``None`` where it does not."""
    if stride == 1 and inputs == outputs:
        return None
    convolution = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Args:
        inputs: Channels of the input.
        width: Channels of both convolutions.
        stride: Stride of the first one.
        inner: Unused by this kind of block; 1.
    """

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, inner: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, images: Tensor) -> Tensor:
        """``(batch, inputs, height, width)`` to ``(batch, width, ...)``."""
        shortcut = images if self.downsample is None else self.downsample(images)
        images = self.relu(self.bn1(self.conv1(images)))
        return self.relu(self.bn2(self.conv2(images)).add_(shortcut))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; four times as many channels come out.

    Args:
        inputs: Channels of the input.
        width: A quarter of the output's channels.
        stride: Stride of the 3x3 convolution.
        inner: Factor by which the 3x3 convolution is wider than ``width``.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, inner: int = 1):
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width * inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width * inner)
        self.conv2 = nn.Conv2d(
            width * inner, width * inner, 3, stride=stride, padding=1, bias=False
        )
        self.bn2 = nn.BatchNorm2d(width * inner)
        self.conv3 = nn.Conv2d(width * inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, images: Tensor) -> Tensor:
        """``(batch, inputs, height, width)`` to ``(batch, 4 * width, ...)``."""
        shortcut = images if self.downsample is None else self.downsample(images)
        images = self.relu(self.bn1(self.conv1(images)))
        images = self.relu(self.bn2(self.conv2(images)))
        return self.relu(self.bn3(self.conv3(images)).add_(shortcut))


Block = Union[Type[BasicBlock], Type[Bottleneck]]


class CifarResNet(nn.Module):
    """Three stages of residual blocks on 32x32 images.

    Args:
        block: Kind of block.
        stages: Blocks per stage.
        num_classes: Number of classes.
        inner: See `Bottleneck`.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(self, block: Block, stages: Tuple[int, ...], num_classes: int, inner: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        inputs = WIDTHS[0]
        for stage, (width, blocks) in enumerate(zip(WIDTHS, stages)):
            rows: List[nn.Module] = []
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                rows.append(block(inputs, width, stride, inner))
                inputs = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*rows))
        self.avgpool = GlobalAverage()
        self.fc = nn.Linear(inputs, num_classes)
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """``(batch, 3, height, width)`` to logits ``(batch, classes)``."""
        images = self.relu(self.bn1(self.conv1(images)))
        images = self.layer3(self.layer2(self.layer1(images)))
        return self.fc(self.avgpool(images))


def _builder(block: Block, inner: int = 1):
    def build(num_classes: int, stages: Tuple[int, ...]) -> Pieces:
        network = CifarResNet(block, stages, num_classes, inner)
        return Pieces(
            network=network,
            stem=nn.Sequential(network.conv1, network.bn1, network.relu),
            units=[*network.layer1, *network.layer2, *network.layer3],
            top=nn.Identity(),
            pool=network.avgpool,
            classifier=network.fc,
        )

    return build


for _depth in (20, 32, 44, 56, 110):
    _blocks = (_depth - 2) // 6
    register_backbone(
        Backbone(
            name=f"resnet{_depth}",
            stages=(_blocks,) * 3,
            build=_builder(BasicBlock),
            about=f"ResNet-{_depth} of He et al. for 32x32 images, basic blocks",
        )
    )
register_backbone(
    Backbone(
        name="resnet110_bottleneck",
        stages=(12, 12, 12),
        build=_builder(Bottleneck),
        about='the "ResNet-110" of OKDDip and AHBF: 36 bottleneck blocks',
    )
)
register_backbone(
    Backbone(
        name="resnet164",
        stages=(18, 18, 18),
        build=_builder(Bottleneck),
        about='ResNet-164, which ONE and TSA\'s trees call "ResNet-110": 54 bottleneck blocks',
    )
)
register_backbone(
    Backbone(
        name="wrn20_8",
        stages=(2, 2, 2),
        build=_builder(Bottleneck, inner=8),
        about='the "WRN-20-8" of OKDDip: 6 bottleneck blocks, eight times as wide inside',
    )
)
