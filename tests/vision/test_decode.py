"""Decoding and cutting single images, good and bad ones."""

import logging

import numpy as np
import pytest
import torch
from image_data import encoded

pytest.importorskip("PIL", reason="decoding images needs Pillow")

from tsa_mt.vision import decode
from tsa_mt.vision.randomness import uniform


def gradient(height, width):
    """An image that is brighter to the right in red and further down in green."""
    red = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    green = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return np.stack([red, green, np.full((height, width), 128.0)]).astype(np.uint8)


def numbers(index):
    return uniform(1, 1, np.array([index]), decode.NUMBERS)[0]


def test_a_random_part_has_an_allowed_area_and_shape_and_lies_inside():
    areas, ratios = [], []
    for index in range(500):
        left, top, right, bottom = decode.random_part(400, 300, numbers(index))
        assert 0 <= left < right <= 400
        assert 0 <= top < bottom <= 300
        areas.append((right - left) * (bottom - top) / (400 * 300))
        ratios.append((right - left) / (bottom - top))
    assert min(areas) > 0.075
    assert max(areas) > 0.8
    assert min(ratios) >= 0.74
    assert max(ratios) <= 1.35


def test_an_image_too_narrow_for_any_allowed_shape_gives_its_central_part():
    assert decode.random_part(1000, 10, numbers(1)) == (493, 0, 506, 10)
    assert decode.random_part(10, 1000, numbers(1)) == (0, 493, 10, 506)


def test_a_training_crop_shows_the_part_that_was_drawn():
    content, size = encoded(gradient(300, 400), "PNG"), 32
    for index in range(6):
        left, top, right, bottom = decode.random_part(400, 300, numbers(index))
        crop = decode.training_crop(content, "x", size, numbers(index)).double()
        red = crop[0].mean(0)
        mirrored = numbers(index)[-1] < 0.5
        assert (red[0] > red[-1]) == mirrored
        middle = 255 * (left + right) / 2 / 400
        assert red.mean() == pytest.approx(middle, abs=3)
        assert crop[1].mean() == pytest.approx(255 * (top + bottom) / 2 / 300, abs=3)


def test_a_jpeg_decoded_at_a_smaller_scale_shows_the_same_part():
    pixels = gradient(900, 1200)
    for index in range(4):
        exact = decode.training_crop(encoded(pixels, "PNG"), "x", 32, numbers(index)).double()
        quick = decode.training_crop(encoded(pixels, "JPEG"), "x", 32, numbers(index)).double()
        assert (exact - quick).abs().max() < 12


def test_the_centre_crop_cuts_the_middle_out_of_an_image_eight_sevenths_as_large():
    crop = decode.centre_crop(encoded(gradient(64, 128)), "x", 28).double()
    assert crop.shape == (3, 28, 28)
    assert crop[0].mean() == pytest.approx(127.5, abs=2)
    shown = (crop[0, 0, -1] - crop[0, 0, 0]) / 255  # of the width of 64 pixels after scaling
    assert shown == pytest.approx(27 / 64, abs=0.02)


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("CMYK", "JPEG"), ("P", "PNG")])
def test_grey_cmyk_and_palette_images_become_rgb_and_the_log_says_so(mode, kind, caplog):
    decode._say_converted.cache_clear()
    content = encoded(gradient(40, 40), kind, mode)
    with caplog.at_level(logging.INFO, logger=decode.__name__):
        image = decode.plain_image(content, "odd.img", 32)
        decode.plain_image(content, "odd.img", 32)
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.uint8
    said = f"images of mode {mode} are converted to RGB; the first one is odd.img"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_a_small_image_is_kept_as_it_is():
    pixels = gradient(32, 32)
    assert np.array_equal(decode.plain_image(encoded(pixels), "x", 32).numpy(), pixels)


def test_a_truncated_jpeg_is_told():
    content = encoded(gradient(300, 300), "JPEG")
    for cut in (decode.centre_crop, lambda *a: decode.training_crop(*a, numbers(0))):
        with pytest.raises(
            ValueError, match="n01/cat.jpg cannot be decoded .*truncated.*; replace"
        ):
            cut(content[: len(content) // 2], "n01/cat.jpg", 64)


def test_a_file_that_is_no_image_is_told():
    with pytest.raises(ValueError, match="n01/notes.jpg is not a readable image"):
        decode.centre_crop(b"hello", "n01/notes.jpg", 64)


def test_without_pillow_a_sentence_says_what_to_install(monkeypatch):
    import sys

    decode._pillow.cache_clear()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ValueError, match="decoding images needs Pillow.*tsa-mt\\[vision\\]"):
        decode.open_image(b"", "x")
    decode._pillow.cache_clear()
