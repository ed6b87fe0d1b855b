"""Finding the dictionaries and the subword model that belong to a checkpoint."""

import shutil

import pytest

from tsa_mt.export.companions import find_companions

PAIR = {"source_lang": "xx", "target_lang": "yy"}


@pytest.fixture
def data(toy, tmp_path):
    """A data folder of its own with the toy's dictionaries and no subword model."""
    folder = tmp_path / "run" / "data-bin"
    folder.mkdir(parents=True)
    for language in ("xx", "yy"):
        shutil.copy(toy.data / f"dict.{language}.txt", folder)
    return folder


def test_a_relative_data_path_is_found_from_the_checkpoint_s_folder(data, monkeypatch):
    """Training recorded it relative to where it was started, which need not be here."""
    monkeypatch.chdir("/")
    checkpoint = data.parent / "checkpoints" / "checkpoint_best.pt"
    task = {**PAIR, "data": "run/data-bin"}
    assert find_companions(task, checkpoint).dictionaries[0] == data / "dict.xx.txt"


def test_of_several_data_folders_the_first_counts(data, tmp_path):
    task = {**PAIR, "data": f"{data}:/nowhere"}
    assert find_companions(task, tmp_path / "m.pt").dictionaries[1] == data / "dict.yy.txt"


def test_a_data_folder_that_is_gone_is_named_with_the_way_out(tmp_path):
    with pytest.raises(FileNotFoundError, match="'/gone/data-bin' .* name it with --data"):
        find_companions({**PAIR, "data": "/gone/data-bin"}, tmp_path / "model.pt")


def test_data_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="--data .*typo is not a folder"):
        find_companions(PAIR, tmp_path / "model.pt", tmp_path / "typo")


def test_a_missing_dictionary_is_named(data):
    (data / "dict.yy.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"dictionary .*dict\.yy\.txt does not exist"):
        find_companions(PAIR, data / "model.pt", data)


def test_languages_are_read_off_the_binarised_files_when_the_task_has_none(data):
    (data / "train.xx-yy.xx.idx").touch()
    assert find_companions({}, data / "model.pt", data).languages == ("xx", "yy")


def test_languages_that_nothing_tells_are_an_error(data):
    with pytest.raises(ValueError, match="does not name its languages"):
        find_companions({}, data / "model.pt", data)


def test_no_subword_model_is_no_error(data):
    companions = find_companions(PAIR, data / "model.pt", data)
    assert companions.subwords == {}
    assert companions.bpe is None


def test_a_subword_model_above_the_data_folder_gets_the_name_that_fairseq_recognises(data, toy):
    shutil.copy(toy.pieces, data.parent / "spm.model")
    (data.parent / "truecase.model").write_text("not a SentencePiece model")
    companions = find_companions(PAIR, data / "model.pt", data)
    assert companions.subwords == {"sentencepiece.bpe.model": data.parent / "spm.model"}
    assert companions.bpe == "sentencepiece"


def test_the_subword_model_of_a_prepared_corpus_is_found(data, toy):
    (data.parent / "subword").mkdir()
    shutil.copy(toy.pieces, data.parent / "subword")
    companions = find_companions(PAIR, data / "model.pt", data)
    assert companions.subwords["sentencepiece.bpe.model"].parent == data.parent / "subword"


def write_dictionary(data, symbols):
    for language in ("xx", "yy"):
        (data / f"dict.{language}.txt").write_text("".join(f"{word} 9\n" for word in symbols))


def test_bpe_codes_are_taken_too(data):
    write_dictionary(data, ["ab@@", "abc", "a@@", "b", "madeupword0001"])
    (data / "bpe.codes").write_text("#version: 0.2\na b\nab c</w>\n")
    companions = find_companions(PAIR, data / "model.pt", data)
    assert companions.subwords == {"bpecodes": data / "bpe.codes"}
    assert companions.bpe == "subword_nmt"


def test_one_subword_model_per_language_keeps_its_name(data, toy):
    for language in ("xx", "yy"):
        shutil.copy(toy.pieces, data / f"spm.{language}.model")
    companions = find_companions(PAIR, data / "model.pt", data)
    assert set(companions.subwords) == {"spm.xx.model", "spm.yy.model"}
    assert companions.bpe is None


def test_several_subword_models_are_refused_by_name(data, toy):
    for name in ("spm8k.model", "spm32k.model"):
        shutil.copy(toy.pieces, data / name)
    with pytest.raises(ValueError, match=r"several subword models \(spm32k.model, spm8k.model\)"):
        find_companions(PAIR, data / "model.pt", data)


def test_codes_that_make_other_pieces_than_the_dictionary_s_are_refused(data):
    write_dictionary(data, ["ab@@", "xyz", "a@@", "b"])
    (data / "bpe.codes").write_text("#version: 0.2\na b\nab c</w>\n")
    with pytest.raises(ValueError, match="bpe.codes is not the subword model .* makes 50% of its"):
        find_companions(PAIR, data / "model.pt", data)


def test_a_stray_model_beside_the_dictionary_is_refused_and_one_above_passed_over(data, toy):
    write_dictionary(data, ["Ha@@", "us", "Bau@@", "me"])
    shutil.copy(toy.pieces, data.parent / "another-project.model")
    assert find_companions(PAIR, data / "model.pt", data).subwords == {}
    shutil.copy(toy.pieces, data)
    with pytest.raises(ValueError, match="makes 0% of its pieces; put the right one there as"):
        find_companions(PAIR, data / "model.pt", data)


def test_of_two_folders_above_the_one_whose_model_fits_is_taken(data, toy):
    (data.parent / "subword").mkdir()
    shutil.copy(toy.pieces, data.parent / "subword" / "spm.model")
    (data.parent / "codes").write_text("#version: 0.2\nq q\n")
    (data.parent / "other.codes").write_text("#version: 0.2\nz z\n")
    found = find_companions(PAIR, data / "model.pt", data).subwords
    assert found == {"sentencepiece.bpe.model": data.parent / "subword" / "spm.model"}


def test_a_stray_model_above_does_not_hide_the_codes_beside_it(data, toy):
    write_dictionary(data, ["ab@@", "abc"])
    shutil.copy(toy.pieces, data.parent / "another-project.model")
    (data.parent / "codes").write_text("#version: 0.2\na b\nab c</w>\n")
    found = find_companions(PAIR, data / "model.pt", data).subwords
    assert found == {"bpecodes": data.parent / "codes"}
