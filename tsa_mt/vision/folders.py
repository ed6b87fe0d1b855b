"""ImageNet-style folders: ``train/CLASS/image.jpg`` and ``val/CLASS/image.jpg``."""

import logging
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np

logger = logging.getLogger(__name__)

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".gif", ".tif", ".tiff"}
TEST_NAMES = ("val", "valid", "validation", "test")
MACOS = "__MACOSX"
"""Where archives made on macOS keep what belongs to their files."""


class FolderImages:
    """Image files with labels; see `tsa_mt.vision.source.StoredImages`.

    Args:
        paths: One file per image.
        labels: ``(images,)`` class indices.
    """

    def __init__(self, paths: List[Path], labels: np.ndarray):
        self.paths = paths
        self.labels = labels

    def encoded(self, index: int) -> bytes:
        """The file's bytes."""
        return self.paths[index].read_bytes()

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])


class FolderCollection:
    """A folder with ``train`` and ``val`` (or ``valid``, ``validation``, ``test``).

    Args:
        path: The folder.

    Raises:
        ValueError: The parts have different classes, or a class has no image.
    """

    def __init__(self, path: Path):
        self.path = path
        self.class_names = _class_names(path / "train")

    def load(self, part: str) -> FolderImages:
        """The images of ``"train"`` or ``"test"``.

        Raises:
            ValueError: A class folder is missing, unknown or empty.
            FileNotFoundError: There is no test part.
        """
        folder = self.path / "train" if part == "train" else self._test_folder()
        names = _class_names(folder)
        if names != self.class_names:
            odd = sorted(set(names) ^ set(self.class_names))
            raise ValueError(
                f"{folder} has {len(names)} classes and {self.path / 'train'} has "
                f"{len(self.class_names)}; they differ in {_some(odd)}; give both the same folders"
            )
        paths, labels, hidden = [], [], 0
        for label, name in enumerate(names):
            files, skipped = _images(folder / name)
            hidden += skipped
            if not files:
                raise ValueError(
                    f"class folder {folder / name} has no image ({', '.join(sorted(SUFFIXES))}); "
                    f"fill or remove it"
                )
            paths.extend(files)
            labels.extend([label] * len(files))
        if hidden:
            logger.info(f"{folder}: {hidden:,} hidden files with the name of an image are left out")
        return FolderImages(paths, np.asarray(labels, dtype=np.int64))

    def _test_folder(self) -> Path:
        for name in TEST_NAMES:
            if (self.path / name).is_dir():
                return self.path / name
        raise FileNotFoundError(
            f"{self.path} has no folder {', '.join(TEST_NAMES[:-1])} or {TEST_NAMES[-1]}; the test "
            f"part must be in one of them"
        )


def _class_names(folder: Path) -> List[str]:
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name != MACOS
    )
    if not names:
        raise ValueError(f"{folder} has no class folders; put the images into one folder per class")
    return names


def _images(folder: Path) -> Tuple[List[Path], int]:
    """The image files in a folder and below, and how many hidden ones were left out.

    Hidden are names that begin with a dot, in a hidden folder or not: what editors keep as copies
    and what macOS stores beside a file (``._cat.jpg``).

    Raises:
        FileNotFoundError: A link leads nowhere.
    """
    found, hidden = [], 0
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or path.is_dir():
            continue
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            hidden += 1
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(
                f"{path} is a link to {path.readlink()}, which does not exist; restore or remove it"
            )
    return found, hidden


def _some(names: List[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def find_folders(path: Path) -> Optional[Path]:
    """The path itself when it has a folder ``train`` with class folders."""
    train = path / "train"
    return path if train.is_dir() and any(p.is_dir() for p in train.iterdir()) else None
