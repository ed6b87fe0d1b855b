"""Published augmentations, applied to a whole batch of small images at once.

Every image of a batch gets its own offset and its own flip. (torchvision's transforms of a batch
move all of its images alike.) Images stay uint8 until they are normalised.
"""

from dataclasses import dataclass
from typing import Dict, Tuple

import numpy as np
import torch
from torch import Tensor

from tsa_mt.vision.randomness import uniform

Triple = Tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation per channel of pixels scaled to [0, 1]."""

    mean: Triple
    std: Triple

    def apply(self, images: Tensor) -> Tensor:
        """``(batch, 3, height, width)`` uint8 to normalised float32."""
        mean, std = (
            torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (self.mean, self.std)
        )
        return images.to(torch.float32).mul_(1.0 / (255.0 * std)).sub_(mean / std)


CIFAR10 = Normalisation((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100 = Normalisation((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
CIFAR10_NARROW = Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Preset:
    """How a paper's code prepares images.

    Attributes:
        about: Where it comes from.
        normalisation: For data of 100 classes and everything else.
        normalisation10: For data of 10 classes.
        pad: Pixels added on every side before cropping back, 0 for no crop.
        reflect: Whether padding mirrors the image instead of being black.
        flip: Whether half of the images are mirrored left to right.
        resized_crop: Whether a random part of the image is scaled to the final size (ImageNet).
    """

    about: str
    normalisation: Normalisation
    normalisation10: Normalisation
    pad: int = 4
    reflect: bool = False
    flip: bool = True
    resized_crop: bool = False

    def normalisation_for(self, classes: int) -> Normalisation:
        """The normalisation of a data set with that many classes."""
        return self.normalisation10 if classes == 10 else self.normalisation


PRESETS: Dict[str, Preset] = {
    "okddip": Preset(
        "OKDDip and AHBF: crop of 4, flip, the data set's statistics", CIFAR100, CIFAR10
    ),
    "tsa": Preset(
        "TSA and ONE: crop of 4, flip, CIFAR-10 means with narrow deviations whatever the data",
        CIFAR10_NARROW,
        CIFAR10_NARROW,
    ),
    "sokd": Preset(
        "SOKD: crop of 4 out of a mirrored border, flip, CIFAR-10 statistics whatever the data",
        CIFAR10,
        CIFAR10,
        reflect=True,
    ),
    "imagenet": Preset(
        "ImageNet: 8 to 100 % of the image at aspect ratios 3/4 to 4/3, flip",
        IMAGENET,
        IMAGENET,
        pad=0,
        resized_crop=True,
    ),
    "none": Preset("no augmentation", CIFAR100, CIFAR10, pad=0, flip=False),
}
"""Presets by the name that ``--augment`` takes; AHBF's is OKDDip's, ONE's is TSA's."""


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: There is none; the message lists the known ones.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown augmentation {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def crop_and_flip(
    images: Tensor, preset: Preset, seed: int, epoch: int, indices: np.ndarray, view: int = 0
) -> Tensor:
    """Moves every image by its own offset and mirrors half of them.

    Args:
        images: ``(batch, 3, height, width)`` uint8.
        preset: Padding and flip.
        seed: Seed of the run.
        epoch: Number of the epoch.
        indices: ``(batch,)`` numbers of the images in the whole data set.
        view: Which of several augmentations of the same images this is.

    Returns:
        Augmented images of the same shape and type.
    """
    numbers = uniform(seed, epoch, indices, 3 * (view + 1))[:, -3:]
    if preset.pad:
        offsets = torch.from_numpy((numbers[:, :2] * (2 * preset.pad + 1)).astype(np.int64))
        images = _crop(_padded(images, preset), offsets, images.shape[-2:])
    if preset.flip:
        flip = torch.from_numpy(numbers[:, 2] < 0.5)
        images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    return images


def _padded(images: Tensor, preset: Preset) -> Tensor:
    if not preset.reflect:
        return torch.nn.functional.pad(images, (preset.pad,) * 4)
    rows, columns = (_mirrored(size, preset.pad) for size in images.shape[-2:])
    return images[:, :, rows[:, None], columns]


def _mirrored(size: int, pad: int) -> Tensor:
    """Source positions of a mirrored border whose edge pixel is not repeated."""
    positions = torch.arange(-pad, size + pad).abs()
    return (size - 1) - ((size - 1) - positions).abs()


def _crop(padded: Tensor, offsets: Tensor, size) -> Tensor:
    """The window of every image at its own (row, column) offset."""
    windows = padded.unfold(2, size[0], 1).unfold(3, size[1], 1)  # n x 3 x top x left x h x w
    return windows[torch.arange(len(padded)), :, offsets[:, 0], offsets[:, 1]]
