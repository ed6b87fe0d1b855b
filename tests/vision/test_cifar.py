"""Reading CIFAR archives and folders, and what is said about broken ones."""

import gzip
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from image_data import CLASSES, TEST, TRAIN, coloured_pixels, write_batch

from tsa_mt.vision.collection import open_collection


@pytest.fixture
def place(cifar, tmp_path):
    """A copy of the unpacked data that a test may damage."""
    shutil.copytree(cifar.folder, tmp_path / "data")
    return tmp_path / "data" / "cifar-10-batches-py"


def pack(folder: Path, archive: Path, mode: str) -> Path:
    with tarfile.open(archive, f"w:{mode}") as tar:
        tar.add(folder, folder.name)
    return archive


@pytest.mark.parametrize("given", ["its folder", "the folder above"])
def test_an_unpacked_data_set_is_found_in_both_places(given, place):
    path = place if given == "its folder" else place.parent
    collection = open_collection(str(path), accept_any_md5=True)
    assert list(collection.class_names) == [f"kind{n}" for n in range(CLASSES)]
    train, test = collection.load("train"), collection.load("test")
    assert train.pixels.shape == (TRAIN, 3, 32, 32)
    assert train.pixels.dtype == torch.uint8
    assert len(test.labels) == TEST
    pixels, labels = coloured_pixels(TRAIN, seed=1)
    assert np.array_equal(train.pixels[:20].numpy(), pixels[::5])  # the first of five files
    assert np.array_equal(train.labels[:20], labels[::5])


@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_an_archive_gives_what_its_unpacked_folder_gives(suffix, place, tmp_path):
    archive = pack(place, tmp_path / f"cifar-10-python.tar.{suffix}", suffix)
    packed = open_collection(str(archive), accept_any_md5=True).load("test")
    plain = open_collection(str(place), accept_any_md5=True).load("test")
    assert torch.equal(packed.pixels, plain.pixels)
    assert np.array_equal(packed.labels, plain.labels)
    found = open_collection(str(tmp_path), accept_any_md5=True)  # the folder that holds the archive
    assert torch.equal(found.load("test").pixels, plain.pixels)


def test_the_real_data_have_known_digests_and_the_published_statistics(shared_data):
    archive = shared_data / "cifar100" / "cifar-100-python.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no CIFAR-100 at {archive}")
    collection = open_collection(str(archive.parent))
    assert len(collection.class_names) == 100
    assert collection.class_names[0] == "apple"
    images = collection.load("test")
    assert np.array_equal(np.bincount(images.labels), np.full(100, 100))
    train = collection.load("train").pixels.double() / 255
    mean, std = train.mean((0, 2, 3)), train.std((0, 2, 3))
    expected = torch.tensor([0.50707516, 0.48654887, 0.44091784], dtype=torch.float64)
    torch.testing.assert_close(mean, expected, atol=1e-7, rtol=0)
    deviation = torch.tensor([0.26733429, 0.25643846, 0.27615047], dtype=torch.float64)
    torch.testing.assert_close(std, deviation, atol=1e-6, rtol=0)


def test_an_unknown_md5_is_told_with_the_way_to_accept_it(place):
    with pytest.raises(ValueError, match="batches.meta has MD5 .* accept it with --accept-any-md5"):
        open_collection(str(place))


def test_a_truncated_archive_is_told(place, tmp_path):
    archive = pack(place, tmp_path / "cifar-10-python.tar.gz", "gz")
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="cifar-10-python.tar.gz is damaged .*fetch it again"):
        open_collection(str(archive), accept_any_md5=True)


def test_an_archive_that_is_none_is_told(tmp_path):
    archive = tmp_path / "cifar-100-python.tar.gz"
    archive.write_bytes(gzip.compress(b"not a tar file"))
    with pytest.raises(ValueError, match="cifar-100-python.tar.gz is damaged .*fetch it again"):
        open_collection(str(archive))


def test_an_archive_without_all_files_is_told_what_it_lacks(place, tmp_path):
    (place / "test_batch").unlink()
    archive = pack(place, tmp_path / "cifar-10-python.tar.xz", "xz")
    with pytest.raises(ValueError, match="not the python version of CIFAR-10: it lacks test_batch"):
        open_collection(str(archive), accept_any_md5=True)


def test_a_missing_file_is_told(place):
    (place / "test_batch").unlink()
    collection = open_collection(str(place), accept_any_md5=True)
    with pytest.raises(FileNotFoundError, match="test_batch is missing; unpack the whole archive"):
        collection.load("test")


def test_a_damaged_file_is_told(place):
    (place / "test_batch").write_bytes((place / "test_batch").read_bytes()[:-500])
    collection = open_collection(str(place), accept_any_md5=True)
    with pytest.raises(ValueError, match="test_batch cannot be read .* fetch CIFAR-10 again"):
        collection.load("test")


class Program:
    """Something that would make a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_file_that_would_run_a_program_is_not_run(place, tmp_path):
    (place / "test_batch").write_bytes(pickle.dumps({b"data": Program(tmp_path / "ran")}))
    collection = open_collection(str(place), accept_any_md5=True)
    with pytest.raises(ValueError, match="test_batch cannot be read .*which images never need"):
        collection.load("test")
    assert not (tmp_path / "ran").exists()


def test_images_and_labels_of_different_numbers_are_told(place):
    pixels, labels = coloured_pixels(TEST, seed=2)
    write_batch(place / "test_batch", pixels, labels[:-1])
    collection = open_collection(str(place), accept_any_md5=True)
    with pytest.raises(ValueError, match="should hold 29 images of 3072 bytes .*\\(30, 3072\\)"):
        collection.load("test")


def test_a_label_beyond_the_classes_is_told(place):
    pixels, labels = coloured_pixels(TEST, seed=2)
    labels[4] = 12
    write_batch(place / "test_batch", pixels, labels)
    collection = open_collection(str(place), accept_any_md5=True)
    with pytest.raises(ValueError, match="has 10 classes, but the label of image 4 is 12"):
        collection.load("test")


def test_two_data_sets_in_one_folder_are_told(place):
    other = place.parent / "cifar-100-python"
    other.mkdir()
    with pytest.raises(ValueError, match="has more than one data set .*give the path of one"):
        open_collection(str(place.parent))


def test_a_path_without_image_data_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no image data at .*nowhere"):
        open_collection(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="is no image data: it must be .*CIFAR-10 or CIFAR-100"):
        open_collection(str(tmp_path))
