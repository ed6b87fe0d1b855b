"""Images of the test part that are in the training part as well, byte for byte."""

import hashlib
import logging
from typing import Iterator, Union

from tsa_mt.vision.source import MemoryImages, StoredImages

logger = logging.getLogger(__name__)

MOST = 200_000
"""Stored images are read for this only up to so many, as reading them all takes long."""


def warn_of_copies(
    train: Union[MemoryImages, StoredImages], test: Union[MemoryImages, StoredImages]
) -> int:
    """Counts test images that equal a training image, and warns if there are any.

    Images in memory are compared by their pixels, stored ones by the bytes of their files.

    Returns:
        How many there are; 0 where the parts are too large to look.
    """
    stored = not isinstance(test, MemoryImages)
    if stored and len(train.labels) + len(test.labels) > MOST:
        logger.info(
            f"copies of training images in the test part were not looked for: over {MOST:,}"
        )
        return 0
    known = set(_digests(train))
    copies = sum(digest in known for digest in _digests(test))
    if copies:
        logger.warning(
            f"{copies:,} of {len(test.labels):,} test images are in the training part as well; "
            f"the accuracy on the test part counts them"
        )
    return copies


def _digests(images: Union[MemoryImages, StoredImages]) -> Iterator[bytes]:
    for index in range(len(images.labels)):
        if isinstance(images, MemoryImages):
            content = images.pixels[index].numpy().tobytes()
        else:
            content = images.encoded(index)
        yield hashlib.blake2b(content, digest_size=16).digest()
