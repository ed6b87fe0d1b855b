"""Decoding and cutting single images, good and bad ones."""

import io
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import data, integers, sampled_from
from image_data import encoded

from tsa_mt.vision import decode, upright
from tsa_mt.vision.randomness import uniform

Image = pytest.importorskip("PIL.Image", reason="decoding images needs Pillow")


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
    upright.said.clear()
    content = encoded(gradient(40, 40), kind, mode)
    with caplog.at_level(logging.INFO, logger=upright.__name__):
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


def stored(image, kind="PNG", **options):
    """The file of a Pillow image."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def grey_ramp(dtype, top):
    """Two rows: black and white."""
    return np.stack([np.zeros(32), np.full(32, top)]).repeat(16, 0).astype(dtype)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (grey_ramp(np.uint16, 65535), "PNG"),
        (grey_ramp(np.uint16, 65535), "TIFF"),
        (grey_ramp(np.int32, 65535), "TIFF"),
        (grey_ramp(np.float32, 1.0), "TIFF"),
    ],
    ids=["16-bit PNG", "16-bit TIFF", "32-bit TIFF", "float TIFF"],
)
def test_wide_grey_values_keep_black_white_and_all_between(values, kind):
    values[0, 0] = values.max() / 2
    shown = decode.plain_image(stored(Image.fromarray(values), kind), "x", 32)
    assert shown[:, 0, 1].tolist() == [0, 0, 0]
    assert shown[:, -1, 0].tolist() == [255, 255, 255]
    assert shown[0, 0, 0].item() in (127, 128)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((8, 8), 7.5, np.float32), "go from 0 to 7.5, and floats must lie between 0 and 1"),
        (
            np.full((8, 8), -1, np.int32),
            "go from -1 to 0, and integers must lie between 0 and 65535",
        ),
        (np.full((8, 8), np.nan, np.float32), "floats must lie between 0 and 1"),
    ],
    ids=["large floats", "negative integers", "NaN"],
)
def test_values_that_nobody_can_map_to_colours_are_refused_with_the_file(values, words):
    with pytest.raises(decode.BrokenImageError, match=f"scan.tif cannot be decoded .*{words}"):
        decode.plain_image(stored(Image.fromarray(values), "TIFF"), "scan.tif", 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_white_shows_behind_what_is_transparent(mode):
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))  # transparent, over a stored red
    image.paste((0, 0, 0, 255), (0, 0, 32, 16))
    if mode == "P":
        image = Image.new("P", (32, 32), 1)
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.paste(0, (0, 0, 32, 16))
        content = stored(image, transparency=1)
    else:
        content = stored(image.convert(mode))
    shown = decode.plain_image(content, "x", 32)
    assert shown[:, 0, 0].tolist() == [0, 0, 0]
    assert shown[:, -1, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_exif_orientation_is_carried_out_in_every_cut(kind, orientation):
    upright_image = Image.fromarray(gradient(120, 240).transpose(1, 2, 0))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose that makes the stored image
    how = undo.get(orientation)
    turned = upright_image if how is None else upright_image.transpose(Image.Transpose(how))
    exif = Image.Exif()
    exif[upright.ORIENTATION] = orientation
    content, plain = stored(turned, kind, exif=exif), stored(upright_image, kind)
    for cut in (
        lambda c: decode.plain_image(c, "x", 32),
        lambda c: decode.centre_crop(c, "x", 28),
        lambda c: decode.training_crop(c, "x", 16, numbers(3)),
    ):
        assert (cut(content).double() - cut(plain).double()).abs().max() < 14


def test_a_damaged_exif_block_does_not_cost_the_image():
    exif = b"Exif\0\0II*\0\xff\xff\xff\x7f"
    pixels = gradient(32, 32)
    content = stored(Image.fromarray(pixels.transpose(1, 2, 0)), "JPEG", exif=exif)
    assert decode.training_crop(content, "x", 16, numbers(0)).shape == (3, 16, 16)


def test_a_decompression_bomb_is_refused_with_its_name(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(decode.BrokenImageError, match="n01/huge.png is too large"):
        decode.plain_image(encoded(gradient(32, 32)), "n01/huge.png", 32)


@settings(max_examples=60, deadline=None)
@given(data())
def test_whatever_the_bytes_there_is_an_image_or_one_sentence_with_the_name(drawn):
    content = bytearray(encoded(gradient(40, 40), drawn.draw(sampled_from(["PNG", "JPEG", "GIF"]))))
    for _ in range(drawn.draw(integers(1, 8))):
        content[drawn.draw(integers(0, len(content) - 1))] = drawn.draw(integers(0, 255))
    cut = drawn.draw(integers(0, len(content)))
    try:
        assert decode.centre_crop(bytes(content[:cut]), "n/odd.img", 16).shape == (3, 16, 16)
    except decode.BrokenImageError as error:
        assert "n/odd.img" in str(error)
