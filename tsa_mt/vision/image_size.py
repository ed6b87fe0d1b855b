"""The side at which a network sees stored images, from the training images alone."""

import logging

import numpy as np

from tsa_mt.vision.decode import BrokenImageError, open_image
from tsa_mt.vision.source import StoredImages

logger = logging.getLogger(__name__)

SMALL = 64
"""Images up to this many pixels wide are decoded once and kept in memory."""
LARGE_SIZE = 224
LOOKED_AT = 100
"""So many training images, evenly spread, decide."""


def usual_side(images: StoredImages, skip_broken: bool = False) -> int:
    """The median of the images' longer sides up to `SMALL` pixels, `LARGE_SIZE` beyond.

    Args:
        images: The training part.
        skip_broken: Whether images that cannot be read are passed over.

    Raises:
        BrokenImageError: One of the images looked at cannot be read, or none can.
    """
    count = len(images.labels)
    numbers = np.unique(np.linspace(0, count - 1, LOOKED_AT).astype(int))
    sides = []
    for number in map(int, numbers):
        try:
            sides.append(max(open_image(images.encoded(number), images.name(number)).size))
        except BrokenImageError:
            if not skip_broken:
                raise
    if not sides:
        raise BrokenImageError(f"none of {len(numbers)} training images can be read")
    median = sorted(sides)[len(sides) // 2]
    side = median if median <= SMALL else LARGE_SIZE
    if side != LARGE_SIZE and min(sides) != max(sides):
        logger.warning(
            f"the training images are {min(sides)} to {max(sides)} pixels wide or high (of "
            f"{len(sides)} looked at): all images are scaled to {side}x{side}, the median; choose "
            f"another size with --image-size"
        )
    return side
