"""Small made-up image data in every layout, and fairseq run in process."""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import train

CLASSES = 10
TRAIN, TEST = 100, 30
FLAGS = [
    *("--task", "image_classification", "--accept-any-md5", "--valid-split", "20"),
    *("--criterion", "online_kd", "--optimizer", "momentum_sgd", "--lr", "0.05"),
    *("--lr-scheduler", "multistep", "--milestones", "2", "--batch-size", "16"),
    *("--cpu", "--num-workers", "0", "--seed", "3", "--log-format", "none"),
]


def coloured_pixels(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images whose brightest channel and row tell their class."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pixels = draw.integers(0, 120, (count, 3, 32, 32))
    for image, label in zip(pixels, labels):
        image[label % 3, 3 * label : 3 * label + 3] += 120
    return pixels.astype(np.uint8), labels


def write_cifar10(folder: Path, train_images: int = TRAIN, test_images: int = TEST) -> Path:
    """Writes the unpacked python version of a small CIFAR-10; the folder that holds it."""
    place = folder / "cifar-10-batches-py"
    place.mkdir(parents=True)
    pixels, labels = coloured_pixels(train_images, seed=1)
    parts = {f"data_batch_{n + 1}": slice(n, None, 5) for n in range(5)}
    for name, rows in parts.items():
        write_batch(place / name, pixels[rows], labels[rows])
    write_batch(place / "test_batch", *coloured_pixels(test_images, seed=2))
    names = [f"kind{n}".encode() for n in range(CLASSES)]
    (place / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}))
    return folder


def write_batch(path: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    entries = {b"data": pixels.reshape(len(pixels), -1), b"labels": [int(n) for n in labels]}
    path.write_bytes(pickle.dumps(entries))


def encoded(pixels: np.ndarray, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """An image file of ``(3, height, width)`` pixels."""
    image = pytest.importorskip("PIL.Image").fromarray(pixels.transpose(1, 2, 0)).convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@dataclass(frozen=True)
class Data:
    """A folder with image data."""

    folder: Path

    def train(self, save: Path, *flags: object, arch: str = "tree_resnet20") -> dict:
        """Trains in this process; the last checkpoint."""
        if hasattr(checkpoint_utils.save_checkpoint, "best"):
            del checkpoint_utils.save_checkpoint.best
        command = [self.folder, "--arch", arch, "--save-dir", save, *FLAGS, *flags]
        parsed = options.parse_args_and_arch(
            options.get_training_parser(), [str(part) for part in command]
        )
        train.main(convert_namespace_to_omegaconf(parsed))
        return torch.load(save / "checkpoint_last.pt", weights_only=False)
