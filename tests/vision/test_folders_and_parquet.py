"""ImageNet-style folders and parquet files."""

import json

import numpy as np
import pytest
from image_data import coloured_pixels, encoded

from tsa_mt.vision.collection import open_collection
from tsa_mt.vision.dataset import decode_all

CLASSES = ["ant", "bee", "cat"]


@pytest.fixture
def folders(tmp_path):
    """Three classes with two training images and one test image each."""
    pixels, _ = coloured_pixels(9, seed=1)
    images = iter(pixels)
    for part, count in (("train", 2), ("val", 1)):
        for name in CLASSES:
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                path = tmp_path / part / name / f"{number}.png"
                path.write_bytes(encoded(next(images)))
    return tmp_path


def test_folders_give_their_images_with_labels_in_the_order_of_the_names(folders):
    collection = open_collection(str(folders))
    assert collection.class_names == CLASSES
    train = collection.load("train")
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert train.name(2).endswith("train/bee/0.png")
    assert np.array_equal(decode_all(train, 32).pixels.numpy(), coloured_pixels(9, seed=1)[0][:6])
    assert collection.load("test").labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["valid", "validation", "test"])
def test_the_test_part_may_have_any_of_its_usual_names(name, folders):
    (folders / "val").rename(folders / name)
    assert len(open_collection(str(folders)).load("test").labels) == 3


def test_a_missing_test_part_is_told(folders):
    (folders / "val").rename(folders / "other")
    with pytest.raises(FileNotFoundError, match="has no folder val, valid, validation or test"):
        open_collection(str(folders)).load("test")


def test_an_empty_class_folder_is_told(folders):
    for path in (folders / "train" / "bee").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="class folder .*train/bee has no image .*fill or remove"):
        open_collection(str(folders)).load("train")


def test_parts_with_different_classes_are_told(folders):
    (folders / "val" / "cat").rename(folders / "val" / "dog")
    with pytest.raises(
        ValueError, match="val has 3 classes and .*train has 3; they differ in 'cat'"
    ):
        open_collection(str(folders)).load("test")


def write_parquet(folder, part, pixels, labels, names=None, image="image", label="label"):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"bytes": encoded(image), "path": None} for image in pixels]
    table = pyarrow.table({image: rows, label: [int(n) for n in labels]})
    if names:
        info = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    half = len(rows) // 2
    for number, piece in enumerate((table[:half], table[half:])):
        path = folder / f"{part}-{number:05d}-of-00002.parquet"
        parquet.write_table(piece, path, row_group_size=2)


@pytest.mark.parametrize("columns", [("image", "label"), ("img", "fine_label")])
def test_parquet_files_give_their_images_labels_and_class_names(columns, tmp_path):
    pixels, labels = coloured_pixels(10, seed=4)
    names = [f"kind{n}" for n in range(10)]
    for part, rows in (("train", slice(None)), ("test", slice(0, 4))):
        write_parquet(tmp_path, part, pixels[rows], labels[rows], names, *columns)
    collection = open_collection(str(tmp_path))
    assert collection.class_names == names
    train = collection.load("train")
    assert np.array_equal(train.labels, labels)
    assert np.array_equal(decode_all(train, 32).pixels.numpy(), pixels)
    assert train.name(7).endswith("train-00001-of-00002.parquet, row group 1, row 0")
    assert len(collection.load("test").labels) == 4


def test_parquet_files_in_a_folder_called_data_are_found_and_may_lack_class_names(tmp_path):
    (tmp_path / "data").mkdir()
    pixels, labels = coloured_pixels(6, seed=4)
    write_parquet(tmp_path / "data", "train", pixels, labels)
    collection = open_collection(str(tmp_path))
    assert collection.class_names == ["0", "1", "2", "3", "4", "5"]
    with pytest.raises(FileNotFoundError, match="no parquet file of the test part"):
        collection.load("test")


def test_a_parquet_label_beyond_the_class_names_is_told(tmp_path):
    pixels, labels = coloured_pixels(6, seed=4)
    write_parquet(tmp_path, "train", pixels, labels, names=["a", "b", "c"])
    with pytest.raises(ValueError, match="has 3 classes, but the label of image 3 is 3"):
        open_collection(str(tmp_path)).load("train")


def test_a_parquet_file_without_images_is_told(tmp_path):
    pixels, labels = coloured_pixels(6, seed=4)
    write_parquet(tmp_path, "train", pixels, labels, image="picture")
    with pytest.raises(ValueError, match="columns picture, label, but none called image or img"):
        open_collection(str(tmp_path))


def test_a_damaged_parquet_file_is_told(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match="train-00000.* is not a readable parquet file"):
        open_collection(str(tmp_path))


def test_without_pyarrow_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "train-00000-of-00001.parquet").touch()
    with pytest.raises(ValueError, match="parquet files need pyarrow.*tsa-mt\\[vision\\]"):
        open_collection(str(tmp_path))
