"""Finds out what kind of image data a path holds."""

from pathlib import Path

from tsa_mt.vision.cifar import CifarCollection, find_cifar
from tsa_mt.vision.folders import FolderCollection, find_folders
from tsa_mt.vision.parquet import ParquetCollection, find_parquet
from tsa_mt.vision.source import Collection


def open_collection(path: str, accept_any_md5: bool = False) -> Collection:
    """Opens CIFAR archives and folders, class folders, or parquet files.

    Args:
        path: An archive, or a folder.
        accept_any_md5: Whether CIFAR files with an unknown MD5 are read.

    Raises:
        FileNotFoundError: There is nothing at the path.
        ValueError: It is none of the kinds, or damaged.
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"there is no image data at {path}")
    cifar = find_cifar(place)
    if cifar is not None:
        return CifarCollection(*cifar, accept_any_md5)
    folders = find_folders(place)
    if folders is not None:
        return FolderCollection(folders)
    parquet = find_parquet(place)
    if parquet is not None:
        return ParquetCollection(parquet)
    raise ValueError(
        f"{path} is no image data: it must be the python version of CIFAR-10 or CIFAR-100 (an "
        f"archive or its folder), a folder with train/CLASS/IMAGE files, or parquet files called "
        f"train-*.parquet"
    )
