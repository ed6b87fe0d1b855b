"""Decoding one stored image and cutting it to size, with Pillow.

Everything becomes upright 8-bit RGB, see `tsa_mt.vision.upright`. Whatever a library raises about a
file becomes one sentence with the file's name.
"""

import functools
import io
import warnings
from typing import Tuple

import numpy as np
import torch
from torch import Tensor

from tsa_mt.vision.upright import is_turned, upright_rgb

AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
TRIES = 10
NUMBERS = 4 * TRIES + 1
"""Random numbers that `random_part` and the flip need for one image."""
EVALUATION_MARGIN = 256 / 224
"""Shorter side of an image before the centre is cut out, relative to the final size."""


class BrokenImageError(ValueError):
    """A file that cannot be shown as an image; the message names it."""


@functools.cache
def _pillow():
    try:
        from PIL import Image
    except ImportError as error:
        raise ValueError(
            f"decoding images needs Pillow, which cannot be imported ({error}); install it with "
            f"pip install 'tsa-mt[vision]'"
        ) from None
    return Image


def open_image(content: bytes, name: str):
    """Reads an image's header.

    Raises:
        BrokenImageError: It is not an image, or a decompression bomb.
        ValueError: Pillow is missing.
    """
    library = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", library.DecompressionBombWarning)
            return library.open(io.BytesIO(content))
    except (library.DecompressionBombWarning, library.DecompressionBombError) as error:
        raise BrokenImageError(f"{name} is too large ({error}); shrink or remove it") from None
    except Exception as error:  # each of Pillow's formats has exceptions of its own
        raise BrokenImageError(
            f"{name} is not a readable image ({error}); replace or remove it"
        ) from None


def to_rgb(image, name: str):
    """Decodes the pixels, turns them upright and converts them to RGB.

    Raises:
        BrokenImageError: The file is truncated or damaged, or has values that are not colours.
    """
    try:
        image.load()
        return upright_rgb(image, name)
    except Exception as error:  # each of Pillow's formats has exceptions of its own
        raise BrokenImageError(
            f"{name} cannot be decoded ({error}); replace or remove it"
        ) from None


def to_tensor(image) -> Tensor:
    """An RGB image as ``(3, height, width)`` uint8."""
    pixels = np.asarray(image, dtype=np.uint8)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def random_part(width: int, height: int, numbers: np.ndarray) -> Tuple[float, float, float, float]:
    """The part of an image that training looks at (Szegedy et al., CVPR 2015).

    Args:
        width: Width of the image.
        height: Height of the image.
        numbers: `NUMBERS` numbers in [0, 1).

    Returns:
        Left, top, right and bottom; the largest central part of an allowed shape when no try fits.
    """
    for scale, shape, across, down in numbers[: 4 * TRIES].reshape(TRIES, 4):
        area = width * height * (AREA[0] + scale * (AREA[1] - AREA[0]))
        ratio = np.exp(np.log(RATIO[0]) + shape * (np.log(RATIO[1]) - np.log(RATIO[0])))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(across * (width - w + 1)), int(down * (height - h + 1))
            return left, top, left + w, top + h
    w = min(width, round(height * RATIO[1]))
    h = min(height, round(width / RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def training_crop(content: bytes, name: str, size: int, numbers: np.ndarray) -> Tensor:
    """A random part of an image, scaled to ``size`` and perhaps mirrored.

    A JPEG is decoded at the smallest of its built-in scales that is still large enough.

    Returns:
        ``(3, size, size)`` uint8.

    Raises:
        BrokenImageError: The image cannot be decoded.
    """
    image = open_image(content, name)
    turned = is_turned(image)
    width, height = reversed(image.size) if turned else image.size
    left, top, right, bottom = random_part(width, height, numbers)
    shrink = size / min(right - left, bottom - top)
    if shrink < 1:
        wanted = int(width * shrink) + 1, int(height * shrink) + 1
        image.draft("RGB", wanted[::-1] if turned else wanted)
    image = to_rgb(image, name)
    x, y = image.size[0] / width, image.size[1] / height
    part = image.resize(
        (size, size), _pillow().Resampling.BILINEAR, (left * x, top * y, right * x, bottom * y)
    )
    tensor = to_tensor(part)
    return tensor.flip(-1) if numbers[-1] < 0.5 else tensor


def centre_crop(content: bytes, name: str, size: int) -> Tensor:
    """The centre of an image whose shorter side was scaled to 8/7 of ``size``.

    Returns:
        ``(3, size, size)`` uint8.

    Raises:
        BrokenImageError: The image cannot be decoded.
    """
    image = to_rgb(open_image(content, name), name)
    scale = round(size * EVALUATION_MARGIN) / min(image.size)
    width, height = (max(size, int(side * scale)) for side in image.size)
    image = image.resize((width, height), _pillow().Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return to_tensor(image.crop((left, top, left + size, top + size)))


def plain_image(content: bytes, name: str, size: int) -> Tensor:
    """A small image as it is, scaled only if its size is another one.

    Returns:
        ``(3, size, size)`` uint8.

    Raises:
        BrokenImageError: The image cannot be decoded.
    """
    image = to_rgb(open_image(content, name), name)
    if image.size != (size, size):
        image = image.resize((size, size), _pillow().Resampling.BILINEAR)
    return to_tensor(image)
