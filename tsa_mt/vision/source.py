"""What every kind of image data comes down to: labelled images by number, and class names."""

from dataclasses import dataclass
from typing import List, Protocol, Union

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class MemoryImages:
    """Small images of one size, all in memory.

    Attributes:
        pixels: ``(images, 3, height, width)`` uint8.
        labels: ``(images,)`` int64 class indices.
    """

    pixels: Tensor
    labels: np.ndarray


class StoredImages(Protocol):
    """Images that are decoded when they are needed."""

    labels: np.ndarray

    def encoded(self, index: int) -> bytes:
        """The file's bytes."""

    def name(self, index: int) -> str:
        """What to call the image in a message."""


class Collection(Protocol):
    """Data with a training and a test part."""

    class_names: List[str]

    def load(self, part: str) -> Union[MemoryImages, StoredImages]:
        """The images of ``"train"`` or ``"test"``."""


def check_labels(labels: np.ndarray, classes: int, where: str) -> None:
    """Refuses labels that name no class.

    Raises:
        ValueError: Names the first wrong label.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise ValueError(
            f"{where} has {classes} classes, but the label of image {wrong[0]} is "
            f"{labels[wrong[0]]}; labels must be 0 to {classes - 1}"
        )
