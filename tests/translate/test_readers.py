"""Checkpoints and exports translate alike, and as fairseq-generate does."""

import json
import shutil
import sys
from itertools import product

import pytest

from tsa_mt.cli import main as tsa_mt_cli
from tsa_mt.export.checkpoint import load_checkpoint
from tsa_mt.translate import load_translator

FORMATS = ("tree", "fairseq", "ctranslate2")
EMPTY = ["", " ", "\u2028", "\ufffd"]  # the last, too, is no more than a space to SentencePiece
NASTY = [*EMPTY, "dada\x00baka", "日本語 😀", "</s>", "baka " * 2000, "x" * 10_000]


def tokens(found):
    return [hypotheses[0].tokens for hypotheses in found]


def scores(found):
    return [hypotheses[0].score for hypotheses in found]


def by_token(found, lenpen, like):
    """Scores as means over the pieces and the end symbol, whatever the length penalty.

    The lengths are those of ``like``: what ties with it under a length penalty other than 1 may be
    of another length, and then has another mean.
    """
    lengths = [len(row[0].tokens) + 1 for row in like]
    return [
        row[0].score * length ** (lenpen - 1) for row, length in zip(found, lengths, strict=True)
    ]


def alike(ours, theirs, ties=1):
    """Whether all but a near tie are equal."""
    same = [one == other for one, other in zip(ours, theirs, strict=True)]
    return sum(same) >= len(same) - ties


@pytest.fixture(scope="module")
def load(models):
    """Loads a format's model, once per way of loading it."""
    loaded = {}

    def load(name, **options):
        key = (name, *options.items())
        if key not in loaded:
            loaded[key] = load_translator(getattr(models, name), threads=1, **options)
            loaded[key].on_long = lambda *facts: None
        return loaded[key]

    return load


@pytest.mark.parametrize("branch", [0, 1, -1])
def test_a_checkpoint_translates_as_fairseq_generate_does(branch, load, pieces, generated):
    """The leader, another leaf and the ensemble: the same pieces and the same scores."""
    found = load("tree", branch=branch).translate_tokens(pieces)
    assert tokens(found) == generated[branch].tokens
    assert scores(found) == pytest.approx(generated[branch].scores, abs=1e-4)


def test_leaves_translate_differently(generated):
    assert generated[0].tokens != generated[1].tokens


@pytest.mark.parametrize("name", FORMATS[1:])
def test_an_export_translates_as_its_checkpoint_does(name, load, pieces, generated):
    found = load(name).translate_tokens(pieces)
    assert alike(tokens(found), generated[0].tokens, ties=int(name == "ctranslate2"))
    assert scores(found) == pytest.approx(generated[0].scores, abs=2e-2)


@pytest.mark.parametrize("name", FORMATS)
def test_raw_text_goes_through_the_subword_model(name, load, raw, pieces):
    translator = load(name)
    found = translator.translate(raw[:9])
    assert tokens(found) == tokens(translator.translate_tokens(pieces[:9]))
    spelled = ["".join(row).replace("▁", " ").strip() for row in tokens(found)]
    assert [hypotheses[0].text for hypotheses in found] == spelled
    assert all(text.endswith("!") for text in spelled)


SEARCHES = (
    {"beam": 1},
    {"beam": 3, "lenpen": 0.0},
    {"lenpen": 2.0},
    {"max_length": 3},  # every translation reaches it
)


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_ctranslate2_searches_as_fairseq_does(search, load, pieces):
    ours = load("ctranslate2", **search).translate_tokens(pieces)
    theirs = load("fairseq", **search).translate_tokens(pieces)
    assert alike(tokens(ours), tokens(theirs))
    penalty = search.get("lenpen", 1.0)
    expected = by_token(theirs, penalty, like=theirs)
    assert by_token(ours, penalty, like=theirs) == pytest.approx(expected, abs=2e-2)
    assert max(map(len, tokens(ours))) <= search.get("max_length", 200)


@pytest.mark.parametrize("name", FORMATS)
def test_a_length_can_be_forced(name, load, pieces):
    found = load(name, min_length=9, max_length=9).translate_tokens(pieces[:9])
    assert {len(row) for row in tokens(found)} == {9}


@pytest.mark.parametrize("name", FORMATS)
def test_batches_change_nothing(name, load, pieces):
    some = pieces[:12]
    alone = [load(name).translate_tokens([sentence])[0] for sentence in some]
    assert tokens(load(name).translate_tokens(some)) == tokens(alone)


def test_batches_that_are_decoded_at_the_same_time_stay_in_order(models, load, pieces):
    """Two threads, a batch for every two or three sentences."""
    translator = load_translator(models.ctranslate2, threads=2, batch_tokens=20)
    reported = []
    translator.on_batch = reported.append
    one, two = (found.translate_tokens(pieces) for found in (load("ctranslate2"), translator))
    assert tokens(two) == tokens(one)
    assert scores(two) == pytest.approx(scores(one), abs=1e-5)
    assert len(reported) > 4
    assert sum(reported) == len(pieces)


def test_a_batch_that_fails_among_others_ends_the_translation(models, pieces, monkeypatch):
    translator = load_translator(models.ctranslate2, threads=2, batch_tokens=20)

    def fail(parts):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(translator, "decode_batch", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        translator.translate_tokens(pieces)


@pytest.mark.parametrize("name", FORMATS)
def test_the_n_best_are_different_and_the_best_comes_first(name, load, pieces):
    for hypotheses in load(name).translate_tokens(pieces[:5], n_best=5):
        assert len({hypothesis.tokens for hypothesis in hypotheses}) == 5
        given = [hypothesis.score for hypothesis in hypotheses]
        assert given == sorted(given, reverse=True)


@pytest.mark.parametrize("name", FORMATS)
def test_no_text_is_too_strange(name, load):
    found = load(name, beam=1, max_length=9).translate(NASTY)
    assert len(found) == len(NASTY)
    assert [bool(row[0].tokens) for row in found] == [text not in EMPTY for text in NASTY]
    assert not any("\n" in row[0].text for row in found)


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_model_reads_is_cut_by_its_own_limit(name, load):
    translator = load(name, beam=1, max_length=9)
    assert translator.limit == 1023
    found = translator.translate_tokens([["▁ba"] * 1023])
    assert 1 <= len(found[0][0].tokens) <= 9


def test_the_command_translates_with_a_checkpoint_and_its_exports(models, raw, tmp_path, load):
    source = tmp_path / "in"
    source.write_text("".join(f"{line}\n" for line in [*raw[:5], "", raw[5]]))
    expected = [row[0].text for row in load("tree").translate([*raw[:5], "", raw[5]])]
    for name in FORMATS:
        out = tmp_path / name
        arguments = ["translate", str(getattr(models, name)), "--quiet", "--threads", "1"]
        assert tsa_mt_cli([*arguments, "--input", str(source), "--output", str(out)]) == 0
        assert out.read_text() == "".join(f"{line}\n" for line in expected)


@pytest.mark.parametrize(("name", "branch"), [*product(FORMATS[1:], (1, -1)), ("tree", 3)])
def test_a_branch_that_is_not_there_is_refused(name, branch, models):
    with pytest.raises(ValueError, match=f"branch {branch} does not exist: "):
        load_translator(getattr(models, name), branch=branch)


def test_leaves_are_counted_in_the_refusal(models):
    with pytest.raises(ValueError, match="has the leaves 0 to 2, 0 being the leader, and -1 is"):
        load_translator(models.tree, branch=-3)


def test_the_averaged_leader_of_a_model_without_an_average_is_refused(models):
    with pytest.raises(ValueError, match="-2 is the averaged leader, but objective 'tsa' keeps no"):
        load_translator(models.tree, branch=-2)


@pytest.mark.parametrize("name", FORMATS[1:])
def test_an_export_without_its_subword_model_reads_pieces_only(name, models, pieces, tmp_path):
    folder = shutil.copytree(getattr(models, name), tmp_path / "up" / name)
    (folder / "sentencepiece.bpe.model").unlink()
    translator = load_translator(folder)
    assert translator.translate_tokens(pieces[:1])[0][0].text.endswith("!")
    with pytest.raises(FileNotFoundError, match="reads SentencePiece pieces, and .* --data"):
        translator.translate(["baka"])


def test_the_subword_model_can_be_elsewhere(models, toy, tmp_path, raw, load):
    folder = shutil.copytree(models.ctranslate2, tmp_path / "ct2")
    (folder / "sentencepiece.bpe.model").unlink()
    found = load_translator(folder, data=toy.data).translate(raw[:1])
    assert found == load("ctranslate2").translate(raw[:1])


def test_a_damaged_checkpoint_is_told_in_a_sentence(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"no checkpoint at all")
    with pytest.raises(ValueError, match="is damaged, it does not begin as a checkpoint does"):
        load_translator(path)


def test_dictionaries_of_another_model_are_told_in_a_sentence(models, toy, tmp_path):
    data = shutil.copytree(toy.data, tmp_path / "data")
    for language in ("xx", "yy"):
        with open(data / f"dict.{language}.txt", "a") as file:
            file.write("more 1\n")
    with pytest.raises(ValueError, match=r"does not fit its options .*\(size mismatch .* --data"):
        load_translator(models.tree, data=data)


def test_a_model_of_another_task_is_refused(models, tmp_path):
    import torch

    state = load_checkpoint(models.tree)
    state["cfg"]["task"]["_name"] = "language_modeling"
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="task 'language_modeling'; only models of task 'transl"):
        load_translator(tmp_path / "model.pt")


def test_a_missing_ctranslate2_is_named_with_the_command_that_installs_it(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(ValueError, match=r"pip install 'tsa-mt\[deploy\]'"):
        load_translator(models.ctranslate2)


def test_a_folder_without_its_vocabulary_is_told_in_a_sentence(models, tmp_path):
    folder = shutil.copytree(models.ctranslate2, tmp_path / "ct2")
    (folder / "shared_vocabulary.json").unlink()
    with pytest.raises(FileNotFoundError, match="source_vocabulary.json does not exist; export it"):
        load_translator(folder)


def test_moses_knows_the_languages_from_every_format(models):
    for name in FORMATS:
        translator = load_translator(getattr(models, name), moses=True)
        assert translator.codec.languages == ("xx", "yy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads is 0; it must be 1 or more"),
        ({"beam": 0}, "beam is 0; it must be 1 or more"),
        ({"split_hyphens": True}, "split_hyphens is a way of Moses to tokenise; set moses as well"),
    ],
)
def test_options_out_of_range_are_refused(options, message, models):
    with pytest.raises(ValueError, match=message):
        load_translator(models.tree, **options)


def test_a_folder_of_ctranslate2_tells_its_limit_and_languages(models):
    config = json.loads((models.ctranslate2 / "config.json").read_text())
    assert config["max_source_positions"] == 1024
    assert (config["source_lang"], config["target_lang"]) == ("xx", "yy")
