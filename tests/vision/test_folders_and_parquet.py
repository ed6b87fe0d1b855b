"""ImageNet-style folders and parquet files."""

import json

import numpy as np
import pytest
from image_data import coloured_pixels, encoded

from tsa_mt.vision.collection import open_collection
from tsa_mt.vision.copies import warn_of_copies
from tsa_mt.vision.dataset import decode_all
from tsa_mt.vision.decode import BrokenImageError
from tsa_mt.vision.image_size import usual_side

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


def test_hidden_files_at_any_depth_are_left_out_and_counted(folders, caplog):
    image = (folders / "train" / "ant" / "0.png").read_bytes()
    (folders / "train" / "ant" / ".ipynb_checkpoints").mkdir()
    (folders / "train" / "ant" / ".ipynb_checkpoints" / "0-checkpoint.png").write_bytes(image)
    (folders / "train" / "bee" / "._0.png").write_bytes(b"\0\5\x16\7Mac OS X")
    (folders / "train" / "__MACOSX").mkdir()
    with caplog.at_level("INFO"):
        train = open_collection(str(folders)).load("train")
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert "train: 2 hidden files with the name of an image are left out" in caplog.text


def test_a_link_that_leads_nowhere_is_told(folders):
    (folders / "train" / "ant" / "2.png").symlink_to(folders / "gone.png")
    with pytest.raises(
        FileNotFoundError, match="ant/2.png is a link to .*gone.png, which does not"
    ):
        open_collection(str(folders)).load("train")


def test_a_folder_called_like_an_image_is_not_one(folders):
    (folders / "train" / "ant" / "odd.png").mkdir()
    assert len(open_collection(str(folders)).load("train").labels) == 6


def rewrite(folders, part, size):
    for number, path in enumerate(sorted((folders / part).rglob("*.png"))):
        side = size[number % len(size)]
        path.write_bytes(encoded(np.zeros((3, side, side), np.uint8)))


def test_the_median_of_the_training_images_decides_the_size(folders, caplog):
    rewrite(folders, "train", [60, 30, 30])
    train = open_collection(str(folders)).load("train")
    assert usual_side(train) == 30
    assert "30 to 60 pixels wide or high (of 6 looked at): all images are scaled to 30x30" in (
        caplog.text
    )


def test_large_training_images_give_the_usual_large_size_without_a_word(folders, caplog):
    rewrite(folders, "train", [90, 100])
    with caplog.at_level("INFO"):
        assert usual_side(open_collection(str(folders)).load("train")) == 224
    assert not [record for record in caplog.records if record.name.startswith("tsa_mt")]


def test_a_broken_image_is_named_or_left_out(folders, caplog):
    (folders / "train" / "bee" / "0.png").write_bytes(b"no image")
    train = open_collection(str(folders)).load("train")
    with pytest.raises(BrokenImageError, match="bee/0.png is not a .*--skip-broken-images"):
        decode_all(train, 32)
    kept = decode_all(train, 32, skip_broken=True)
    assert kept.labels.tolist() == [0, 0, 1, 2, 2]
    assert kept.pixels.shape == (5, 3, 32, 32)
    assert "bee/0.png is not a readable image" in caplog.text
    assert "1 of 6 images are left out" in caplog.text


def test_copies_of_training_images_in_the_test_part_are_counted(folders, caplog):
    source = folders / "train" / "ant" / "0.png"
    (folders / "val" / "bee" / "0.png").write_bytes(source.read_bytes())
    collection = open_collection(str(folders))
    train, test = collection.load("train"), collection.load("test")
    assert warn_of_copies(train, test) == 1
    assert warn_of_copies(decode_all(train, 32), decode_all(test, 32)) == 1
    assert "1 of 3 test images are in the training part as well" in caplog.text
