"""Any stored image as upright 8-bit RGB, without losing what it shows.

* An EXIF orientation is carried out, as cameras mean it and viewers show it.
* 16-bit values are scaled by 255/65535, floats between 0 and 1 by 255. Other wide values are
  refused: nobody can say which of them is white.
* Transparency shows white behind it. The colour that a file stores under a transparent pixel is
  arbitrary.
* Grey, palette and CMYK images are converted by Pillow. An animation gives its first frame.

The log says each of these once, with the first file.
"""

import logging
from typing import Any, Set

import numpy as np

logger = logging.getLogger(__name__)

ORIENTATION = 0x0112
SWAPPING = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
WIDE = 65535


said: Set[str] = set()
"""What the log has said already."""


def _say_once(what: str, name: str) -> None:
    if what not in said:
        said.add(what)
        logger.info(f"{what}; the first one is {name}")


def _orientation(image: Any) -> int:
    """The EXIF orientation; 1, upright, where there is none or its block is damaged."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # pixels are fine where only the block is not
        return 1


def is_turned(image: Any) -> bool:
    """Whether the upright image is as wide as the stored one is high."""
    return _orientation(image) in SWAPPING


def upright_rgb(image: Any, name: str) -> Any:
    """The image as people see it, in 8-bit RGB.

    Args:
        image: A Pillow image whose pixels are loaded.
        name: What to call it in messages.

    Raises:
        ValueError: Its values are too wide to tell which is white.
    """
    from PIL import Image, ImageOps

    if _orientation(image) != 1:
        _say_once("images with an EXIF orientation are turned upright", name)
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    _say_once(f"images of mode {image.mode} are converted to RGB", name)
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Grey values of 16 bits, or floats between 0 and 1, as 8 bits."""
    is_float = values.dtype.kind == "f"
    most = 1.0 if is_float else WIDE
    low, high = values.min(initial=0), values.max(initial=0)
    if not 0 <= low <= high <= most:  # also true of NaN
        kind, limit = ("floats", 1) if is_float else ("integers", WIDE)
        raise ValueError(
            f"its values go from {low:g} to {high:g}, and {kind} must lie between 0 and {limit}"
        )
    return np.rint(values.astype(np.float64) * (255 / most)).astype(np.uint8)
