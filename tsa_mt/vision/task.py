"""``--task image_classification``: images in, classes out, with fairseq's own trainer.

``valid`` is a part of the training images that is held out (``--valid-split``), ``test`` is the
test part. Checkpoints are chosen on the first ``--valid-subset``, which must not be the test part;
it may be watched beside: ``--valid-subset valid,test``.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, MISSING

from tsa_mt.vision.augment import Normalisation, Preset, find_preset
from tsa_mt.vision.collection import open_collection
from tsa_mt.vision.copies import warn_of_copies
from tsa_mt.vision.dataset import DecodedDataset, ImageDataset, MemoryDataset, decode_all, hold_out
from tsa_mt.vision.image_size import LARGE_SIZE, SMALL, usual_side
from tsa_mt.vision.source import Collection, MemoryImages

PARTS = {"train": "train", "valid": "train", "test": "test"}
"""Splits, and the part of the data each is taken from."""


@dataclass
class ImageClassificationConfig(FairseqDataclass):
    """Options of the task."""

    data: str = field(
        default=MISSING,
        metadata={
            "help": "folder with CIFAR-10 or CIFAR-100 (archive or unpacked), with "
            "train/CLASS/IMAGE and val/CLASS/IMAGE, or with train-*.parquet and test-*.parquet"
        },
    )
    valid_split: int = field(
        default=5000,
        metadata={
            "help": "training images held out as 'valid', equally many of every class and the same "
            "ones whatever the seed; 0 = none"
        },
    )
    augment: str = field(
        default="",
        metadata={
            "help": "whose augmentation and normalisation: okddip, tsa, sokd, imagenet or none "
            "[unset = okddip for small images, imagenet for large ones]"
        },
    )
    image_size: Optional[int] = field(
        default=None,
        metadata={
            "help": f"side of the images that the network sees [unset = the training images' own, "
            f"their median up to {SMALL} pixels, {LARGE_SIZE} beyond]"
        },
    )
    skip_broken_images: bool = field(
        default=False,
        metadata={"help": "leave images out that cannot be decoded, instead of stopping there"},
    )
    num_classes: Optional[int] = field(
        default=None, metadata={"help": "checked against the data [unset = whatever the data have]"}
    )
    accept_any_md5: bool = field(
        default=False, metadata={"help": "read CIFAR files although their MD5 is not a known one"}
    )
    validate_ema: bool = field(
        default=False,
        metadata={
            "help": "validate the averaged weights of --store-ema instead of the latest ones"
        },
    )
    store_ema: bool = II("ema.store_ema")
    seed: int = II("common.seed")
    fp16: bool = II("common.fp16")
    bf16: bool = II("common.bf16")
    valid_subset: str = II("dataset.valid_subset")
    disable_validation: bool = II("dataset.disable_validation")


@register_task("image_classification", dataclass=ImageClassificationConfig)
class ImageClassificationTask(FairseqTask):
    """Image classification; see the module's docstring."""

    def __init__(self, cfg: ImageClassificationConfig):
        super().__init__(cfg)
        self._collection: Optional[Collection] = None
        self._parts: Dict[str, Any] = {}
        self._views = 1
        self._size: Optional[int] = None
        self.state.add_factory("class_names", lambda: list(self.collection.class_names))

    @classmethod
    def setup_task(cls, cfg: ImageClassificationConfig, from_checkpoint: bool = False, **kwargs):
        """Checks the options; reads no data yet.

        Raises:
            ValueError: An option is out of range, the precision would spoil BatchNorm, or the
                checkpoint would be chosen on the test part.
        """
        if not from_checkpoint:
            _check(cfg)
        return cls(cfg)

    @property
    def target_dictionary(self) -> None:
        """There is none: every label is a class, no label is padding."""
        return None

    @property
    def source_dictionary(self) -> None:
        """There is none."""
        return None

    @property
    def collection(self) -> Collection:
        """The data, opened when first needed.

        Raises:
            ValueError: They are damaged, or have another number of classes than they should.
            FileNotFoundError: There are none.
        """
        if self._collection is None:
            self._collection = open_collection(self.cfg.data, self.cfg.accept_any_md5)
            self._check_classes(len(self._collection.class_names))
        return self._collection

    @property
    def class_names(self) -> List[str]:
        """Names of the classes: the checkpoint's, where the task was restored from one."""
        return self.state.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def _check_classes(self, found: int) -> None:
        known = self.state.state_dict.get("class_names")
        expected = self.cfg.num_classes if known is None else len(known)
        if expected is not None and expected != found:
            source = "--num-classes says" if known is None else "the checkpoint has"
            raise ValueError(
                f"{self.cfg.data} has {found} classes, but {source} {expected}; use the data that "
                f"belong to it"
            )

    def load_dataset(self, split: str, combine: bool = False, **kwargs) -> None:
        """Makes ``train``, ``valid`` or ``test`` available.

        Raises:
            ValueError: There is no such split, or nothing was held out for ``valid``.
        """
        if split not in PARTS:
            raise ValueError(f"unknown split {split!r}; choose one of {', '.join(PARTS)}")
        if split == "valid" and not self.cfg.valid_split:
            raise ValueError(
                "--valid-split 0 leaves nothing to validate on; hold images out, or add "
                "--disable-validation and evaluate checkpoint_last.pt with fairseq-validate"
            )
        self.datasets[split] = self._dataset(split)

    def _dataset(self, split: str) -> ImageDataset:
        images = self._part(PARTS[split])
        preset = self.preset
        rest = {
            "images": images,
            "rows": self._rows(split, images.labels),
            "preset": preset,
            "normalisation": self.normalisation,
            "seed": self.cfg.seed,
            "training": split == "train",
            "views": self._views,
        }
        if isinstance(images, MemoryImages):
            return MemoryDataset(**rest)
        skip_broken = self.cfg.skip_broken_images
        return DecodedDataset(**rest, size=self.image_size, skip_broken=skip_broken)

    def _rows(self, split: str, labels: np.ndarray) -> np.ndarray:
        """Which images of its part a split has."""
        everything = np.arange(len(labels))
        if split == "test" or not self.cfg.valid_split:
            return everything
        held = hold_out(labels, self.cfg.valid_split, self.num_classes)
        return held if split == "valid" else np.setdiff1d(everything, held)

    def _part(self, part: str):
        """The images of a part, small ones decoded; read once."""
        if part not in self._parts:
            images = self.collection.load(part)
            if part == "train":
                self._size = self._size_of(images)
            if not isinstance(images, MemoryImages) and self.image_size <= SMALL:
                images = decode_all(images, self.image_size, self.cfg.skip_broken_images)
            self._parts[part] = images
            if part == "test":
                warn_of_copies(self._part("train"), images)
        return self._parts[part]

    def _size_of(self, images: Any) -> int:
        """Side of the images that the network sees, from the training part."""
        if self.cfg.image_size is not None:
            return self.cfg.image_size
        if isinstance(images, MemoryImages):
            return images.pixels.shape[-1]
        return usual_side(images, self.cfg.skip_broken_images)

    @property
    def image_size(self) -> int:
        """Side of the images that the network sees; the test part has no say in it."""
        if self._size is None:
            self._part("train")
        assert self._size is not None  # the training part has set it
        return self._size

    @property
    def preset(self) -> Preset:
        """Augmentation and normalisation."""
        return find_preset(self.cfg.augment or self._default_augment())

    def _default_augment(self) -> str:
        return "okddip" if isinstance(self._part("train"), MemoryImages) else "imagenet"

    @property
    def normalisation(self) -> Normalisation:
        """What pixels are normalised with."""
        return self.preset.normalisation_for(self.num_classes)

    def build_model(self, cfg: Any, from_checkpoint: bool = False):
        """Builds the model, and notes in the task's state how its images must be prepared.

        How many views of an image training needs, the model's objective knows.
        """
        if not from_checkpoint:
            self._remember_preparation()
        model = super().build_model(cfg, from_checkpoint)
        self._views = getattr(model, "views", 1)
        return model

    def _remember_preparation(self) -> None:
        """What `tsa-mt classify` needs to know and the options may leave open."""
        normalisation = self.normalisation
        preparation = {
            "class_names": self.class_names,
            "image_size": self.image_size,
            "mean": list(normalisation.mean),
            "std": list(normalisation.std),
        }
        self.state.merge_state_dict(preparation)

    @property
    def uses_ema(self) -> bool:
        """Tells the trainer to hand the averaged model over."""
        return self.cfg.validate_ema

    def train_step(self, *arguments: Any, ema_model: Any = None, **options: Any):
        """As fairseq's; the average takes no part in training."""
        return super().train_step(*arguments, **options)

    def valid_step(self, sample: Dict[str, Any], model: Any, criterion: Any, ema_model: Any = None):
        """As fairseq's, for the averaged model where there is one."""
        evaluated = model if ema_model is None else ema_model.eval()
        return super().valid_step(sample, evaluated, criterion)

    def max_positions(self) -> None:
        """Images have no length."""
        return None


def _check(cfg: ImageClassificationConfig) -> None:
    if Path(cfg.data).is_file():
        raise ValueError(f"{cfg.data} is a file; give the folder that holds it")
    if cfg.augment:
        find_preset(cfg.augment)
    if cfg.valid_split < 0:
        raise ValueError(f"--valid-split is {cfg.valid_split}; it must be 0 or more")
    if cfg.image_size is not None and cfg.image_size < 1:
        raise ValueError(f"--image-size is {cfg.image_size}; it must be at least 1")
    if cfg.validate_ema and not cfg.store_ema:
        raise ValueError("--validate-ema needs averaged weights; add --store-ema")
    if cfg.fp16 or cfg.bf16:
        raise ValueError(
            f"--{'fp16' if cfg.fp16 else 'bf16'} would keep BatchNorm statistics in half "
            f"precision; use --bf16-autocast, or --amp on a GPU, which keep them in float32"
        )
    if cfg.valid_subset.split(",")[0] == "test" and not cfg.disable_validation:
        raise ValueError(
            "the first --valid-subset is 'test', so checkpoints would be chosen on the test part; "
            "use --valid-subset valid,test to watch it, or --disable-validation and "
            "fairseq-validate --valid-subset test afterwards"
        )
