"""Batch augmentation: an image's own offset and flip, evenly spread, equal to one-by-one code."""

import numpy as np
import pytest
import torch

from tsa_mt.vision.augment import PRESETS, Normalisation, crop_and_flip, find_preset
from tsa_mt.vision.randomness import permutation, uniform


def noise(count, side=32):
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def one_by_one(images, preset, seed, epoch, indices):
    """The same augmentation, written for a single image at a time."""
    mode = {"mode": "reflect"} if preset.reflect else {"mode": "constant"}
    results = []
    for image, index in zip(images.numpy(), indices):
        down, across, mirrored = uniform(seed, epoch, np.array([index]), 3)[0]
        if preset.pad:
            border = ((0, 0), (preset.pad, preset.pad), (preset.pad, preset.pad))
            top, left = int(down * (2 * preset.pad + 1)), int(across * (2 * preset.pad + 1))
            image = np.pad(image, border, **mode)[:, top : top + 32, left : left + 32]
        if preset.flip and mirrored < 0.5:
            image = image[:, :, ::-1]
        results.append(image.copy())
    return torch.from_numpy(np.stack(results))


@pytest.mark.parametrize("name", ["okddip", "tsa", "sokd", "none"])
def test_a_batch_is_augmented_like_its_images_one_by_one(name):
    images, indices = noise(40), np.arange(100, 140)
    expected = one_by_one(images, PRESETS[name], 7, 3, indices)
    assert torch.equal(crop_and_flip(images, PRESETS[name], 7, 3, indices), expected)


def test_an_images_augmentation_does_not_depend_on_the_batch_it_is_in():
    images, indices = noise(12), np.arange(12)
    together = crop_and_flip(images, PRESETS["okddip"], 1, 1, indices)
    order = np.array([5, 0, 11])
    apart = crop_and_flip(images[order], PRESETS["okddip"], 1, 1, indices[order])
    assert torch.equal(apart, together[order])


@pytest.mark.parametrize("other", [(2, 1), (1, 2)])
def test_another_seed_and_another_epoch_augment_otherwise(other):
    images, indices = noise(12), np.arange(12)
    first = crop_and_flip(images, PRESETS["okddip"], 1, 1, indices)
    assert not torch.equal(crop_and_flip(images, PRESETS["okddip"], *other, indices), first)


def test_offsets_cover_all_81_places_evenly_and_half_of_the_images_are_mirrored():
    count = 40_000
    numbers = uniform(3, 5, np.arange(count), 3)
    places = (numbers[:, :2] * 9).astype(int)
    counts = np.bincount(places[:, 0] * 9 + places[:, 1], minlength=81)
    expected = count / 81
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 125  # 80 degrees of freedom: above it once in a thousand seeds
    assert abs((numbers[:, 2] < 0.5).mean() - 0.5) < 0.01


def test_neighbouring_images_epochs_and_seeds_draw_independently():
    base = uniform(1, 1, np.arange(5000), 2)
    others = [uniform(1, 1, np.arange(1, 5001), 2), uniform(1, 2, np.arange(5000), 2)]
    others += [uniform(2, 1, np.arange(5000), 2)]
    pairs = [(base[:, 0], base[:, 1]), *((base[:, 0], other[:, 0]) for other in others)]
    for first, second in pairs:
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_numbers_stay_below_one_for_every_seed_a_run_may_have():
    for seed in (0, -1, 2**31, 2**63 - 1):
        numbers = uniform(seed, 300, np.array([0, 2**40]), 50)
        assert numbers.min() >= 0.0
        assert numbers.max() < 1.0


def test_an_order_is_a_permutation_of_its_own_for_every_epoch():
    first, second = permutation(1, 1, 50), permutation(1, 2, 50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, permutation(1, 1, 50))


def test_normalisation_scales_to_one_subtracts_the_mean_and_divides_by_the_deviation():
    images = noise(2)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    normalised = Normalisation(mean, std).apply(images)
    for channel in range(3):
        expected = (images[:, channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(normalised[:, channel].double(), expected, atol=1e-5, rtol=1e-5)


def test_presets_have_the_published_numbers():
    assert find_preset("tsa").normalisation_for(100).std == (0.2023, 0.1994, 0.2010)
    assert find_preset("tsa").normalisation_for(100).mean == (0.4914, 0.4822, 0.4465)
    assert find_preset("okddip").normalisation_for(100).mean == (0.5071, 0.4865, 0.4409)
    assert find_preset("okddip").normalisation_for(100).std == (0.2673, 0.2564, 0.2762)
    assert find_preset("okddip").normalisation_for(10).std == (0.2470, 0.2435, 0.2616)
    assert find_preset("sokd").reflect
    assert find_preset("sokd").normalisation_for(100).mean == (0.4914, 0.4822, 0.4465)


def test_an_unknown_preset_is_told_with_the_known_ones():
    with pytest.raises(
        ValueError, match="unknown augmentation 'cutout'; choose one of okddip, tsa"
    ):
        find_preset("cutout")


def test_views_of_an_image_draw_independently_and_the_first_is_the_only_one_s():
    images, indices = noise(40), np.arange(40)
    preset = PRESETS["okddip"]
    views = [crop_and_flip(images, preset, 1, 1, indices, view) for view in range(3)]
    assert torch.equal(views[0], crop_and_flip(images, preset, 1, 1, indices))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        same = sum(torch.equal(a, b) for a, b in zip(views[first], views[second]))
        assert same < 5  # one in 162 by chance
