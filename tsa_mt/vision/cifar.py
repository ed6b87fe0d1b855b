"""CIFAR-10 and CIFAR-100 in their makers' "python version", packed or unpacked.

The archives hold pickles; they are read with an allow-list of the three functions that NumPy arrays
need, so that a manipulated file cannot run code. Files whose MD5 is not a known one are refused
unless the caller accepts them.

Source of the data: https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, 2009).
"""

import hashlib
import importlib
import io
import lzma
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
import torch

from tsa_mt.vision.source import MemoryImages, check_labels

PIXELS = 3 * 32 * 32
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar")


@dataclass(frozen=True)
class Layout:
    """Where a data set's files are and what is in them.

    Attributes:
        title: Name of the data set.
        folder: Folder inside the archive.
        parts: Files of the training and the test part.
        meta: File with the class names.
        names: Its entry with the class names.
        labels: The entry of a part's file with the labels.
        md5: Known digests per file: the published one first, then of lossless rebuilds.
    """

    title: str
    folder: str
    parts: Dict[str, Tuple[str, ...]]
    meta: str
    names: str
    labels: str
    md5: Dict[str, Tuple[str, ...]]

    @property
    def files(self) -> List[str]:
        """Every file of the data set."""
        return [self.meta, *(name for names in self.parts.values() for name in names)]


LAYOUTS = (
    Layout(
        title="CIFAR-100",
        folder="cifar-100-python",
        parts={"train": ("train",), "test": ("test",)},
        meta="meta",
        names="fine_label_names",
        labels="fine_labels",
        md5={
            "train": ("16019d7e3df5f24257cddd939b257f8d", "aafe9d5b079fba16d53531825d7012be"),
            "test": ("f0ef6b0ae62326f3e7ffdfab6717acfc", "17cca3784854850184a7708c79a4854d"),
            "meta": ("7973b15100ade9c7d40fb424638fde48",),
        },
    ),
    Layout(
        title="CIFAR-10",
        folder="cifar-10-batches-py",
        parts={
            "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
            "test": ("test_batch",),
        },
        meta="batches.meta",
        names="label_names",
        labels="labels",
        md5={
            "data_batch_1": ("c99cafc152244af753f735de768cd75f",),
            "data_batch_2": ("d4bba439e000b95fd0a9bffe97cbabec",),
            "data_batch_3": ("54ebc095f3ab1f0389bbae665268c751",),
            "data_batch_4": ("634d18415352ddfa80567beed471001a",),
            "data_batch_5": ("482c414d41f54cd18b22e5b47cb7c3cb",),
            "test_batch": ("40351d587109b95175f43aff81a1287e",),
            "batches.meta": ("5ff9c542aee3614f3951f8cda6e48888",),
        },
    ),
)


class CifarCollection:
    """CIFAR-10 or CIFAR-100.

    Args:
        layout: Which of the two.
        path: The unpacked folder, or the archive.
        accept_any_md5: Whether files with an unknown MD5 are read.

    Raises:
        ValueError: The archive is damaged, or a file has an unknown MD5.
        FileNotFoundError: A file is missing.
    """

    def __init__(self, layout: Layout, path: Path, accept_any_md5: bool = False):
        self.layout = layout
        self.path = path
        self.accept_any_md5 = accept_any_md5
        self._packed = None if path.is_dir() else _unpack(path, layout)
        meta = self._read(layout.meta)
        self.class_names = [name.decode() for name in _entry(meta, layout.names, path)]

    def load(self, part: str) -> MemoryImages:
        """The images of ``"train"`` or ``"test"``.

        Raises:
            ValueError: A file is damaged or does not hold what its name promises.
            FileNotFoundError: A file is missing.
        """
        pixels, labels = [], []
        for name in self.layout.parts[part]:
            entries = self._read(name)
            data = _entry(entries, "data", self.path / name)
            here = np.asarray(_entry(entries, self.layout.labels, self.path / name), np.int64)
            self._check(name, data, here)
            pixels.append(np.asarray(data))
            labels.append(here)
        images = torch.from_numpy(np.concatenate(pixels).reshape(-1, 3, 32, 32))
        return MemoryImages(images, np.concatenate(labels))

    def _check(self, name: str, data: np.ndarray, labels: np.ndarray) -> None:
        fits = isinstance(data, np.ndarray) and data.dtype == np.uint8
        if not fits or data.shape != (len(labels), PIXELS):
            shape = getattr(data, "shape", type(data).__name__)
            raise ValueError(
                f"{self.path / name} should hold {len(labels)} images of {PIXELS} bytes each, but "
                f"its data are {shape}; fetch {self.layout.title} again"
            )
        check_labels(labels, len(self.class_names), str(self.path / name))

    def _read(self, name: str) -> dict:
        content = self._content(name)
        digest = hashlib.md5(content).hexdigest()
        known = self.layout.md5[name]
        if digest not in known and not self.accept_any_md5:
            raise ValueError(
                f"{self.path / name} has MD5 {digest}, but {self.layout.title}'s has {known[0]}: "
                f"it is damaged or altered; fetch it again, or accept it with --accept-any-md5"
            )
        try:
            entries = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        except Exception as error:  # a damaged pickle can raise nearly anything
            raise ValueError(
                f"{self.path / name} cannot be read ({type(error).__name__}: {error}); fetch "
                f"{self.layout.title} again"
            ) from None
        return {key.decode() if isinstance(key, bytes) else key: v for key, v in entries.items()}

    def _content(self, name: str) -> bytes:
        if self._packed is not None:
            return self._packed[name]
        path = self.path / name
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing; unpack the whole archive of {self.layout.title} there"
            )
        return path.read_bytes()


def _entry(entries: dict, key: str, where: Path):
    if key not in entries:
        raise ValueError(f"{where} has no entry {key!r}; is it from the 'python version' of CIFAR?")
    return entries[key]


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles plain containers and NumPy arrays, nothing else."""

    def find_class(self, module: str, name: str):
        core = "numpy._core" if hasattr(np, "_core") else "numpy.core"
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): f"{core}.multiarray",
            ("numpy._core.multiarray", "_reconstruct"): f"{core}.multiarray",
            ("numpy", "ndarray"): "numpy",
            ("numpy", "dtype"): "numpy",
            ("_codecs", "encode"): "_codecs",
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which images never need")
        return getattr(importlib.import_module(allowed[module, name]), name)


def _unpack(archive: Path, layout: Layout) -> Dict[str, bytes]:
    """All files of a packed data set, in one pass."""
    found: Dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                name = Path(member.name).name
                content = tar.extractfile(member) if name in layout.files else None
                if content is not None:
                    found[name] = content.read()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise ValueError(f"archive {archive} is damaged ({reason}); fetch it again") from None
    missing = [name for name in layout.files if name not in found]
    if missing:
        raise ValueError(
            f"archive {archive} is not the python version of {layout.title}: it lacks "
            f"{', '.join(missing)}"
        )
    return found


def find_cifar(path: Path) -> Optional[Tuple[Layout, Path]]:
    """Looks for CIFAR at a path: an archive, an unpacked folder, or a folder with either.

    Raises:
        ValueError: A folder has both data sets.
    """
    found = [(layout, place) for layout in LAYOUTS for place in _places(layout, path)]
    if len({layout.title for layout, _ in found}) > 1:
        names = " and ".join(str(place) for _, place in found)
        raise ValueError(f"{path} has more than one data set ({names}); give the path of one")
    return found[0] if found else None


def _places(layout: Layout, path: Path) -> List[Path]:
    archive = layout.folder.replace("batches-py", "python")
    if path.is_file():
        ours = path.name.startswith(archive) and path.name.endswith(ARCHIVE_SUFFIXES)
        return [path] if ours else []
    if (path / layout.meta).is_file():
        return [path]
    if (path / layout.folder).is_dir():
        return [path / layout.folder]
    return [p for s in ARCHIVE_SUFFIXES if (p := path / f"{archive}{s}").is_file()][:1]
