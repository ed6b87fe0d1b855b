"""VGG-16 with batch normalisation for 32x32 images, in the two forms of the literature.

``vgg16`` has one linear layer after the convolutions (TSA); ``vgg16_mlp`` has the three-layer
classifier of OKDDip and AHBF (512-512-classes, ReLU, dropout .5). A unit is a convolution with its
normalisation, and the pooling in front of it; the last pooling is the network's top. With
``vgg16_mlp`` a leaf's features are what its last linear layer reads (OKDDip's code attends to the
512 values before the hidden layers).

Paper: https://arxiv.org/abs/1409.1556. Code compared with:
https://github.com/Linwenye/Tree-Supervised (``models/vgg.py``) and
https://github.com/DefangChen/OKDDip-AAAI2020 (``models/model_cifar/vgg.py``).
"""

from typing import List, Tuple

from torch import Tensor, nn

from tsa_mt.vision.backbone import (
    Backbone,
    GlobalAverage,
    Pieces,
    initialise_convolutions,
    register_backbone,
)

WIDTHS = (64, 128, 256, 512, 512)
STAGES = (2, 2, 3, 3, 3)
DROPOUT = 0.5


def _unit(inputs: int, outputs: int, pool: bool) -> nn.Sequential:
    layers: List[nn.Module] = [nn.MaxPool2d(2)] if pool else []
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(*layers, convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _hidden(width: int) -> List[nn.Module]:
    return [nn.Linear(width, width), nn.ReLU(inplace=True), nn.Dropout(DROPOUT)]


class CifarVGG(nn.Module):
    """Five stages of convolutions.

    Args:
        stages: Convolutions per stage.
        num_classes: Number of classes.
        hidden: Hidden layers of the classifier: 0 or 2.
    """

    def __init__(self, stages: Tuple[int, ...], num_classes: int, hidden: int):
        super().__init__()
        units, inputs = [], 3
        for stage, (width, count) in enumerate(zip(WIDTHS, stages)):
            for index in range(count):
                units.append(_unit(inputs, width, pool=stage > 0 and index == 0))
                inputs = width
        self.features = nn.Sequential(*units)
        self.maxpool = nn.MaxPool2d(2)
        self.pool = nn.Sequential(
            GlobalAverage(), *(layer for _ in range(hidden) for layer in _hidden(inputs))
        )
        self.classifier = nn.Linear(inputs, num_classes)
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """``(batch, 3, height, width)`` to logits ``(batch, classes)``."""
        return self.classifier(self.pool(self.maxpool(self.features(images))))


def _builder(hidden: int):
    def build(num_classes: int, stages: Tuple[int, ...]) -> Pieces:
        network = CifarVGG(stages, num_classes, hidden)
        return Pieces(
            network=network,
            stem=nn.Identity(),
            units=list(network.features),
            top=network.maxpool,
            pool=network.pool,
            classifier=network.classifier,
        )

    return build


for _name, _hidden_layers, _whose in (
    ("vgg16", 0, "TSA's, with one linear layer"),
    ("vgg16_mlp", 2, "OKDDip's and AHBF's, with a three-layer classifier"),
):
    register_backbone(
        Backbone(
            name=_name,
            stages=STAGES,
            build=_builder(_hidden_layers),
            about=f"VGG-16 with batch normalisation for 32x32 images, {_whose}",
            cuts=(4, 4, 5),
        )
    )
