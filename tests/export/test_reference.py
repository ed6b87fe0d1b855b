"""The sentences that a certificate is about."""

import json
import shutil

import pytest
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

from tsa_mt.export.companions import find_companions
from tsa_mt.export.reference import from_certificate, from_data, from_files

PAIR = {"source_lang": "xx", "target_lang": "yy"}


@pytest.fixture
def companions(toy):
    return find_companions(PAIR, toy.data / "model.pt", toy.data)


def test_the_validation_set_is_the_one_that_was_binarised(toy, companions):
    reference = from_data(companions, [toy.data])
    assert reference.sources == [line.split() for line in toy.raw("pieces.valid", "xx")]
    assert reference.targets == toy.raw("valid", "yy")
    assert reference.name == f"20 sentences of the valid split of {toy.data}"
    assert reference.origin == {"split": "valid", "folder": str(toy.data)}


def test_a_pair_that_was_binarised_the_other_way_round_is_found(toy, companions, tmp_path):
    for name in ("bin", "idx"):
        for language in ("xx", "yy"):
            source = toy.data / f"valid.xx-yy.{language}.{name}"
            shutil.copy(source, tmp_path / f"valid.yy-xx.{language}.{name}")
    assert from_data(companions, [tmp_path]).targets == toy.raw("valid", "yy")


def test_without_a_validation_set_the_test_set_serves(toy, companions, tmp_path):
    for path in toy.data.glob("test.*"):
        shutil.copy(path, tmp_path)
    reference = from_data(companions, [tmp_path / "nowhere", tmp_path])
    assert reference.origin["split"] == "test"
    assert reference.targets == toy.raw("test", "yy")


def test_no_split_is_no_reference(companions, tmp_path):
    assert from_data(companions, [tmp_path]) is None


def test_a_target_piece_that_the_dictionary_lacks_cannot_be_matched(toy, companions, tmp_path):
    """Two unknown words are not the same word."""
    dictionary = Dictionary.load(str(toy.data / "dict.yy.txt"))
    lines = toy.raw("pieces.valid", "yy")
    for language, first in (("xx", lines[0]), ("yy", "never-seen " + lines[0])):
        builder = MMapIndexedDatasetBuilder(str(tmp_path / f"valid.xx-yy.{language}.bin"))
        builder.add_item(dictionary.encode_line(first, add_if_not_exist=False))
        builder.finalize(str(tmp_path / f"valid.xx-yy.{language}.idx"))
    reference = from_data(companions, [tmp_path])
    assert reference.targets == ["<<unk>> " + toy.raw("valid", "yy")[0]]


def test_files_are_cut_into_pieces_by_the_model_s_own_subwords(toy, companions):
    files = (toy.folder / "test.xx", toy.folder / "test.yy")
    reference = from_files(*files, companions)
    assert reference.sources == [line.split() for line in toy.raw("pieces.test", "xx")]
    assert reference.targets == toy.raw("test", "yy")
    assert reference.name == f"61 sentences of {files[0]} and {files[1]}"


def test_files_of_different_length_are_refused(toy, companions):
    with pytest.raises(ValueError, match="has 61 lines and .*yy 20; every sentence needs"):
        from_files(toy.folder / "test.xx", toy.folder / "valid.yy", companions)


def test_empty_files_are_refused(companions, tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="empty is empty; it needs a sentence a line"):
        from_files(tmp_path / "empty", tmp_path / "empty", companions)


def test_some_of_the_sentences_are_taken_at_even_distances(toy, companions):
    reference = from_data(companions, [toy.data])
    some = reference.spread(5)
    assert some.targets == reference.targets[::4]
    assert some.sources == reference.sources[::4]
    assert some.name.startswith("5 of the 20 sentences of the valid split")
    assert reference.spread(20) is reference


def test_the_checksum_depends_on_every_sentence_and_its_order(toy, companions):
    reference = from_data(companions, [toy.data])
    sums = {reference.spread(count).sha256 for count in (1, 2, 19, 20, 21)}
    assert len(sums) == 4


def test_an_earlier_certificate_leads_to_its_sentences(toy, companions, tmp_path):
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps({"reference": {"split": "valid", "folder": str(toy.data)}}))
    assert from_certificate(path, companions).targets == toy.raw("valid", "yy")
    files = [str(toy.folder / f"test.{language}") for language in ("xx", "yy")]
    path.write_text(json.dumps({"reference": {"files": files}}))
    assert from_certificate(path, companions).targets == toy.raw("test", "yy")


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"reference": {"folder": "gone"}}', '{"reference": {}}']
)
def test_a_certificate_that_leads_nowhere_is_no_reference(content, companions, tmp_path):
    (tmp_path / "certificate.json").write_text(content)
    assert from_certificate(tmp_path / "certificate.json", companions) is None
