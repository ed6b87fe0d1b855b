"""Image data as fairseq datasets.

Batches of small images are cut out of memory and augmented as a whole in the collater; large images
are decoded one by one, in as many workers as ``--num-workers`` says. Either way what happens to an
image depends on the seed, the epoch and its number alone.
"""

import logging
from typing import Any, Dict, List, Sequence

import numpy as np
import torch
from fairseq.data import FairseqDataset
from torch import Tensor

from tsa_mt.vision.augment import Normalisation, Preset, crop_and_flip
from tsa_mt.vision.decode import (
    NUMBERS,
    BrokenImageError,
    centre_crop,
    plain_image,
    training_crop,
)
from tsa_mt.vision.randomness import permutation, uniform
from tsa_mt.vision.source import MemoryImages, StoredImages

logger = logging.getLogger(__name__)


class ImageDataset(FairseqDataset):
    """Labelled images in batches; every image counts as one token.

    Args:
        labels: ``(images,)`` labels of the whole part.
        rows: Which images of the part belong to this split.
        preset: Augmentation.
        normalisation: Applied last.
        seed: Seed of the run.
        training: Whether images are shuffled and augmented.
        views: How many augmentations of every image a training batch has.
    """

    def __init__(
        self,
        labels: np.ndarray,
        rows: np.ndarray,
        preset: Preset,
        normalisation: Normalisation,
        seed: int,
        training: bool,
        views: int = 1,
    ):
        self.preset = preset
        self.views = views if training else 1
        self.labels = labels
        self.rows = rows
        self.normalisation = normalisation
        self.seed = seed
        self.training = training
        self.epoch = 1

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Tells which epoch's offsets and order come next."""
        self.epoch = epoch

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """Batches of training images are made anew for every epoch; reused they would be frozen."""
        return not self.training

    def ordered_indices(self) -> np.ndarray:
        """A new order for every epoch in training, the data's own order elsewhere."""
        if self.training:
            return permutation(self.seed, self.epoch, len(self))
        return np.arange(len(self))

    def num_tokens(self, index: int) -> int:
        """Every image is one prediction."""
        return 1

    def num_tokens_vec(self, indices: Sequence[int]) -> np.ndarray:
        """See `num_tokens`."""
        return np.ones(len(indices), dtype=np.int64)

    def size(self, index: int) -> int:
        """Every image has length 1."""
        return 1

    @property
    def sizes(self) -> np.ndarray:
        """Lengths of all images."""
        return np.ones(len(self), dtype=np.int64)

    def _batch(self, numbers: np.ndarray, views: Sequence[Tensor]) -> Dict[str, Any]:
        """A batch; views but the first go to the model as ``more_views``, which most do without."""
        images, *others = map(self.normalisation.apply, views)
        return {
            "id": torch.from_numpy(numbers),
            "net_input": {"images": images, **({"more_views": others} if others else {})},
            "target": torch.from_numpy(self.labels[numbers]),
            "ntokens": len(numbers),
            "nsentences": len(numbers),
        }

    def _moved(self, views: Sequence[Tensor], numbers: np.ndarray) -> List[Tensor]:
        """Every view with offsets and flips of its own, in training."""
        if not self.training:
            return list(views)
        return [
            crop_and_flip(images, self.preset, self.seed, self.epoch, numbers, view)
            for view, images in enumerate(views)
        ]


class MemoryDataset(ImageDataset):
    """Small images, augmented a whole batch at a time.

    Args:
        images: All images of the part.
        rows: See `ImageDataset`.
        preset: See `ImageDataset`.
        normalisation: See `ImageDataset`.
        seed: See `ImageDataset`.
        training: See `ImageDataset`.
        views: See `ImageDataset`.
    """

    def __init__(
        self,
        images: MemoryImages,
        rows: np.ndarray,
        preset: Preset,
        normalisation: Normalisation,
        seed: int,
        training: bool,
        views: int = 1,
    ):
        super().__init__(images.labels, rows, preset, normalisation, seed, training, views)
        self.pixels = images.pixels

    def __getitem__(self, index: int) -> int:
        """The image's number in the whole part; the collater does the rest."""
        return int(self.rows[index])

    def collater(self, samples: List[int]) -> Dict[str, Any]:
        """A batch out of image numbers; {} out of none."""
        if not samples:
            return {}
        numbers = np.asarray(samples, dtype=np.int64)
        images = self.pixels[torch.from_numpy(numbers)]
        return self._batch(numbers, self._moved([images] * self.views, numbers))


class DecodedDataset(ImageDataset):
    """Large images, decoded and cropped one by one.

    Args:
        images: All images of the part.
        rows: See `ImageDataset`.
        preset: See `ImageDataset`.
        normalisation: See `ImageDataset`.
        seed: See `ImageDataset`.
        training: See `ImageDataset`.
        size: Side of the images that the network sees.
        views: See `ImageDataset`.
        skip_broken: Whether batches leave out images that cannot be decoded, with a warning.
    """

    def __init__(
        self,
        images: StoredImages,
        rows: np.ndarray,
        preset: Preset,
        normalisation: Normalisation,
        seed: int,
        training: bool,
        size: int,
        views: int = 1,
        skip_broken: bool = False,
    ):
        super().__init__(images.labels, rows, preset, normalisation, seed, training, views)
        self.images = images
        self.image_size = size
        self.skip_broken = skip_broken

    def __getitem__(self, index: int):
        """The image's number and the pixels ``(views, 3, size, size)`` of its views.

        Returns:
            A pair; ``None`` for an image that is left out.

        Raises:
            BrokenImageError: The image cannot be decoded.
        """
        number = int(self.rows[index])
        try:
            return number, self._crops(number)
        except BrokenImageError as error:
            return _leave_out(error, self.skip_broken)

    def _crops(self, number: int) -> Tensor:
        content, name = self.images.encoded(number), self.images.name(number)
        if self.training and self.preset.resized_crop:
            numbers = uniform(self.seed, self.epoch, np.array([number]), NUMBERS * self.views)
            own = numbers.reshape(self.views, NUMBERS)
            return torch.stack([training_crop(content, name, self.image_size, n) for n in own])
        crop = centre_crop(content, name, self.image_size)
        return crop.expand(self.views, *crop.shape)

    def collater(self, samples: List) -> Dict[str, Any]:
        """A batch out of decoded images; {} out of none."""
        samples = [sample for sample in samples if sample is not None]
        if not samples:
            return {}
        numbers = np.asarray([number for number, _ in samples], dtype=np.int64)
        stacked = torch.stack([pixels for _, pixels in samples], dim=1)  # views x batch x ...
        views: Sequence[Tensor] = list(stacked)
        if not self.preset.resized_crop:
            views = self._moved(views, numbers)
        return self._batch(numbers, views)


def decode_all(images: StoredImages, size: int, skip_broken: bool = False) -> MemoryImages:
    """Decodes small images once and for all.

    Args:
        images: Images of any size.
        size: The side that they are scaled to.
        skip_broken: Whether images that cannot be decoded are left out, with a warning.

    Raises:
        BrokenImageError: An image cannot be decoded.
    """
    pixels = torch.empty(len(images.labels), 3, size, size, dtype=torch.uint8)
    kept = []
    for index in range(len(images.labels)):
        try:
            pixels[index] = plain_image(images.encoded(index), images.name(index), size)
            kept.append(index)
        except BrokenImageError as error:
            _leave_out(error, skip_broken)
    if len(kept) == len(pixels):
        return MemoryImages(pixels, images.labels)
    logger.warning(f"{len(pixels) - len(kept):,} of {len(pixels):,} images are left out")
    return MemoryImages(pixels[kept], images.labels[kept])


def _leave_out(error: BrokenImageError, allowed: bool) -> None:
    """Warns of an image that is left out, or stops."""
    if not allowed:
        raise BrokenImageError(f"{error}, or leave such images out with --skip-broken-images")
    logger.warning(f"{error}: left out")


def hold_out(labels: np.ndarray, count: int, classes: int) -> np.ndarray:
    """Chooses images for validation, equally many of every class, the same ones in every run.

    Args:
        labels: ``(images,)`` labels of the training part.
        count: How many to hold out; what does not divide by the classes goes to the first ones.
        classes: Number of classes.

    Returns:
        Their sorted numbers.

    Raises:
        ValueError: Some class has fewer images than are asked for.
    """
    share, rest = divmod(count, classes)
    chosen = []
    for label in range(classes):
        wanted = share + (label < rest)
        members = np.flatnonzero(labels == label)
        if wanted >= len(members):
            raise ValueError(
                f"--valid-split {count} asks for {wanted} images of class {label}, which has "
                f"{len(members)}; choose a smaller number"
            )
        chosen.append(members[permutation(HOLD_OUT_SEED, label, len(members))[:wanted]])
    return np.sort(np.concatenate(chosen))


HOLD_OUT_SEED = 20220821
"""The split does not follow --seed: runs with different seeds must validate on the same images."""
