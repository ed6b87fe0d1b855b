"""Backbones that come from pytorchcv: ResNet-18/34/50, WRN, DenseNet, MobileNetV2, ShuffleNetV2.

Only building one imports pytorchcv (MIT licence, https://github.com/osmr/imgclsmob); the names are
always registered. Parameter names are pytorchcv's, so that its own state dicts load. The last
pooling is replaced by one that takes any image size. A unit is a residual block, a dense layer, an
inverted residual or a shuffle block; a DenseNet's transition belongs to the layer after it.

``resnet18_cifar`` and its siblings have a 3x3 stem without pooling and four stages from 64
channels, the usual form for 32x32 images. ``mobilenetv2_cifar`` keeps the stem and the 24-channel
stage at full resolution, as TSA's does.
"""

import importlib
from typing import Any, List, Sequence, Tuple

from torch import nn

from tsa_mt.vision.backbone import Backbone, Builder, Pieces, register_backbone

MOBILENET_WIDTHS = (16, 24, 32, 64, 96, 160, 320)
MOBILENET_STRIDES = (1, 2, 2, 2, 1, 2, 1)
MOBILENET_STEM = 32
RESNET_WIDTHS = (64, 128, 256, 512)
WRN_WIDTHS = (16, 32, 64)
SHUFFLENET_WIDTHS = (116, 232, 464)
DENSENET_GROWTH = 12


def _family(module: str, name: str):
    """A class of pytorchcv.

    Raises:
        ValueError: pytorchcv is not installed.
    """
    try:
        return getattr(importlib.import_module(f"pytorchcv.models.{module}"), name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"this backbone needs pytorchcv, which cannot be imported ({error}); install it with "
            f"pip install 'tsa-mt[vision]', or use a backbone that needs nothing, such as resnet32"
        ) from None


def _stages(network: Any) -> List[nn.Module]:
    """The children of ``features`` called stage1, stage2, ..."""
    return [part for name, part in network.features.named_children() if name.startswith("stage")]


def _units(stages: Sequence[nn.Module]) -> List[nn.Module]:
    """Every unit; a transition is joined to the unit that follows it."""
    units: List[nn.Module] = []
    for stage in stages:
        waiting: List[nn.Module] = []
        for name, part in stage.named_children():
            waiting.append(part)
            if not name.startswith("trans"):
                units.append(waiting[0] if len(waiting) == 1 else nn.Sequential(*waiting))
                waiting = []
    return units


def _take_apart(network: Any) -> Pieces:
    """The pieces of any pytorchcv network with staged ``features`` and an ``output``."""
    network.features.final_pool = nn.AdaptiveAvgPool2d(1)
    names = [name for name, _ in network.features.named_children()]
    last = max(index for index, name in enumerate(names) if name.startswith("stage"))
    parts = list(network.features)
    return Pieces(
        network=network,
        stem=network.features.init_block,
        units=_units(_stages(network)),
        top=nn.Sequential(*parts[last + 1 : -1]),
        pool=nn.Sequential(parts[-1], nn.Flatten(1)),
        classifier=network.output,
    )


def _repeat(widths: Sequence[int], stages: Tuple[int, ...], factor: int = 1) -> List[List[int]]:
    return [[width * factor] * count for width, count in zip(widths, stages)]


def _imagenet_resnet(bottleneck: bool) -> Builder:
    def build(num_classes: int, stages: Tuple[int, ...]) -> Pieces:
        network = _family("resnet", "ResNet")(
            channels=_repeat(RESNET_WIDTHS, stages, 4 if bottleneck else 1),
            init_block_channels=64,
            bottleneck=bottleneck,
            conv1_stride=False,  # the stride is in the 3x3 convolution, as in torchvision
            num_classes=num_classes,
        )
        return _take_apart(network)

    return build


def _cifar_resnet(bottleneck: bool) -> Builder:
    def build(num_classes: int, stages: Tuple[int, ...]) -> Pieces:
        network = _family("resnet_cifar", "CIFARResNet")(
            channels=_repeat(RESNET_WIDTHS, stages, 4 if bottleneck else 1),
            init_block_channels=64,
            bottleneck=bottleneck,
            num_classes=num_classes,
        )
        return _take_apart(network)

    return build


def _wrn(width: int) -> Builder:
    def build(num_classes: int, stages: Tuple[int, ...]) -> Pieces:
        network = _family("wrn_cifar", "CIFARWRN")(
            channels=_repeat(WRN_WIDTHS, stages, width),
            init_block_channels=16,
            num_classes=num_classes,
        )
        return _take_apart(network)

    return build


def _densenet(num_classes: int, stages: Tuple[int, ...]) -> Pieces:
    channels, width = [], 4 * DENSENET_GROWTH  # halved before the first stage
    for count in stages:
        start = width // 2
        channels.append([start + DENSENET_GROWTH * (index + 1) for index in range(count)])
        width = channels[-1][-1]
    network = _family("densenet_cifar", "CIFARDenseNet")(
        channels=channels,
        init_block_channels=2 * DENSENET_GROWTH,
        bottleneck=True,
        num_classes=num_classes,
    )
    return _take_apart(network)


def _mobilenetv2(scale: float, small_images: bool) -> Builder:
    def build(num_classes: int, stages: Tuple[int, ...]) -> Pieces:
        channels: List[List[int]] = [[]]
        for width, count, stride in zip(MOBILENET_WIDTHS, stages, MOBILENET_STRIDES):
            if stride == 2:
                channels.append([])
            channels[-1].extend([int(width * scale)] * count)
        network = _family("mobilenetv2", "MobileNetV2")(
            channels=channels,
            init_block_channels=int(MOBILENET_STEM * scale),
            final_block_channels=1280,
            remove_exp_conv=False,
            num_classes=num_classes,
        )
        if small_images:
            network.features.init_block.conv.stride = (1, 1)
            network.features.stage2.unit1.conv2.conv.stride = (1, 1)
        return _take_apart(network)

    return build


def _shufflenetv2(num_classes: int, stages: Tuple[int, ...]) -> Pieces:
    network = _family("shufflenetv2", "ShuffleNetV2")(
        channels=_repeat(SHUFFLENET_WIDTHS, stages),
        init_block_channels=24,
        final_block_channels=1024,
        num_classes=num_classes,
    )
    return _take_apart(network)


# name -> (units per stage, bottleneck, TSA's cuts: root, middle, last)
_RESNETS = {
    "resnet18": ((2, 2, 2, 2), False, (1, 3, 4)),
    "resnet34": ((3, 4, 6, 3), False, (3, 6, 7)),
    "resnet50": ((3, 4, 6, 3), True, (3, 6, 7)),
}
for _name, (_counts, _bottleneck, _cuts) in _RESNETS.items():
    _deep = "bottleneck" if _bottleneck else "basic"
    register_backbone(
        Backbone(
            name=_name,
            stages=_counts,
            build=_imagenet_resnet(_bottleneck),
            about=f"{_name} for 224x224 images, {_deep} blocks",
            image_size=224,
            cuts=_cuts,
            growth=(2, 3),
            ladder=_counts[2] + _counts[3],
        )
    )
    register_backbone(
        Backbone(
            name=f"{_name}_cifar",
            stages=_counts,
            build=_cifar_resnet(_bottleneck),
            about=f"{_name} with a 3x3 stem for 32x32 images, {_deep} blocks",
            cuts=_cuts,
            growth=(2, 3),
            ladder=_counts[2] + _counts[3],
        )
    )
for _depth, _width in ((28, 10), (40, 1), (40, 2)):
    register_backbone(
        Backbone(
            name=f"wrn{_depth}_{_width}",
            stages=((_depth - 4) // 6,) * 3,
            build=_wrn(_width),
            about=f"WRN-{_depth}-{_width}, pre-activation basic blocks",
        )
    )
register_backbone(
    Backbone(
        name="densenet40_12",
        stages=(6, 6, 6),
        build=_densenet,
        about="DenseNet-BC-40-12, the DenseNet of OKDDip and AHBF",
    )
)
for _suffix, _scale, _small in (("", 1.0, False), ("_cifar", 1.0, True), ("_wd2", 0.5, False)):
    register_backbone(
        Backbone(
            name=f"mobilenetv2{_suffix}",
            stages=(1, 2, 3, 4, 3, 3, 1),
            build=_mobilenetv2(_scale, _small),
            about=f"MobileNetV2 x{_scale:g} for {32 if _small else 224}-pixel images",
            image_size=32 if _small else 224,
            cuts=(3, 10, 4),
            growth=(4, 5, 6),
            fork=4,
            ladder=7,
        )
    )
register_backbone(
    Backbone(
        name="shufflenetv2",
        stages=(4, 8, 4),
        build=_shufflenetv2,
        about="ShuffleNetV2 x1 for 224x224 images",
        image_size=224,
    )
)
