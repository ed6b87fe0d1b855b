"""Parquet files as model hubs ship image data: an image column, a label column, class names.

The image column holds structs with ``bytes`` (an encoded file). Class names come from the schema's
``huggingface`` metadata where they are given there, otherwise the largest label tells their number.
Files are told apart by name: ``train-00000-of-00005.parquet``, ``test-...`` or ``validation-...``.
"""

import json
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np

from tsa_mt.vision.source import check_labels

LABELS = ("fine_label", "label", "labels")
IMAGES = ("image", "img")
TEST_NAMES = ("test", "validation", "valid", "val")
CACHED_GROUPS = 4


def _pyarrow():
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"parquet files need pyarrow, which cannot be imported ({error}); install it with "
            f"pip install 'tsa-mt[vision]'"
        ) from None
    return pyarrow.parquet


class ParquetImages:
    """Images in the rows of parquet files; see `tsa_mt.vision.source.StoredImages`.

    Rows are read a row group at a time, and a few groups are kept.

    Args:
        files: The files, in order.
        column: Name of the image column.
        labels: ``(images,)`` class indices.
    """

    def __init__(self, files: List[Path], column: str, labels: np.ndarray):
        self.files = files
        self.column = column
        self.labels = labels
        self._groups: List[Tuple[int, int]] = []
        starts = [0]
        for number, file in enumerate(files):
            metadata = _pyarrow().ParquetFile(file).metadata
            for group in range(metadata.num_row_groups):
                self._groups.append((number, group))
                starts.append(starts[-1] + metadata.row_group(group).num_rows)
        self._starts = np.asarray(starts)
        self._cache: Dict[int, list] = {}

    def encoded(self, index: int) -> bytes:
        """The image file's bytes.

        Raises:
            ValueError: The row has none.
        """
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        value = self._rows(group)[index - self._starts[group]]
        content = value.get("bytes") if isinstance(value, dict) else value
        if not content:
            raise ValueError(f"{self.name(index)} has no bytes; the files must hold their images")
        return content

    def name(self, index: int) -> str:
        """File and row."""
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        number, in_file = self._groups[group]
        return f"{self.files[number]}, row group {in_file}, row {index - self._starts[group]}"

    def _rows(self, group: int) -> list:
        if group not in self._cache:
            while len(self._cache) >= CACHED_GROUPS:
                self._cache.pop(next(iter(self._cache)))
            number, in_file = self._groups[group]
            table = (
                _pyarrow()
                .ParquetFile(self.files[number])
                .read_row_group(in_file, columns=[self.column])
            )
            self._cache[group] = table.column(0).to_pylist()
        return self._cache[group]


class ParquetCollection:
    """A folder of parquet files.

    Args:
        path: The folder that holds them.

    Raises:
        ValueError: A file is damaged or has no image or label column.
    """

    def __init__(self, path: Path):
        self.path = path
        self.files = {"train": _named(path, ("train",)), "test": _named(path, TEST_NAMES)}
        schema = _schema(self.files["train"][0])
        self.image_column = _column(schema.names, IMAGES, self.files["train"][0])
        self.label_column = _column(schema.names, LABELS, self.files["train"][0])
        names = _names_in(schema.metadata, self.label_column)
        self.class_names = names or [str(n) for n in range(int(self._labels("train").max()) + 1)]

    def load(self, part: str) -> ParquetImages:
        """The images of ``"train"`` or ``"test"``.

        Raises:
            ValueError: A label names no class.
            FileNotFoundError: There is no file of that part.
        """
        if not self.files[part]:
            raise FileNotFoundError(
                f"{self.path} has no parquet file of the test part; its name must start with one "
                f"of {', '.join(TEST_NAMES)}"
            )
        labels = self._labels(part)
        check_labels(labels, len(self.class_names), f"the {part} part of {self.path}")
        return ParquetImages(self.files[part], self.image_column, labels)

    def _labels(self, part: str) -> np.ndarray:
        columns = [
            _pyarrow().read_table(file, columns=[self.label_column]).column(0).to_numpy()
            for file in self.files[part]
        ]
        return np.concatenate(columns).astype(np.int64)


def _named(path: Path, names: Tuple[str, ...]) -> List[Path]:
    """The files of the first name that has any."""
    for name in names:
        files = sorted(
            f for f in path.glob("*.parquet") if f.name.split("-")[0].split(".")[0] == name
        )
        if files:
            return files
    return []


def _schema(file: Path):
    parquet = _pyarrow()
    import pyarrow

    try:
        return parquet.read_schema(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{file} is not a readable parquet file ({error}); fetch it again"
        ) from None


def _column(present: List[str], wanted: Tuple[str, ...], file: Path) -> str:
    for name in wanted:
        if name in present:
            return name
    raise ValueError(
        f"{file} has the columns {', '.join(present)}, but none called {' or '.join(wanted)}"
    )


def _names_in(metadata: Optional[Dict[bytes, bytes]], column: str) -> List[str]:
    """Class names out of the schema's metadata, [] when it has none."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[column]["names"]]
    except (KeyError, TypeError, ValueError):
        return []


def find_parquet(path: Path) -> Optional[Path]:
    """The folder (the path, or its ``data``) that has parquet files of a training part."""
    for folder in (path, path / "data"):
        if folder.is_dir() and _named(folder, ("train",)):
            return folder
    return None
