"""The recipes on real corpora, where they are at hand.

The expected checksums of the tokenised text are those of the output of Moses' perl scripts
(mosesdecoder at 34452895, run as in fairseq's prepare-iwslt14.sh and prepare-wmt14en2de.sh).
"""

import hashlib
import json

import pytest
from dataprep.tokenise import part_final_stop

PERL = {
    "de": "e718c783e33160b7d72af8f733756a466e0d0c016eff8ab624c1b0d1d01cbbdf",
    "en": "4b127beb9050511a3e6209cd837ff36f623a3a423666b32aba6e208b7330cf4c",
}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lines(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


@pytest.fixture(scope="module")
def iwslt14(tmp_path_factory, shared):
    """IWSLT14's test set, prepared once."""
    from prepare import main

    out = tmp_path_factory.mktemp("iwslt14") / "out"
    assert (
        main(
            [
                "iwslt14-de-en",
                "--from-local",
                str(shared / "iwslt14.de-en"),
                "--splits",
                "test",
                "--out",
                str(out),
                "--workers",
                "1",
            ]
        )
        == 0
    )
    return out


@pytest.mark.parametrize("code", ["de", "en"])
def test_the_iwslt14_test_set_equals_the_perl_scripts_on_every_line(iwslt14, code):
    assert len(lines(iwslt14 / "text" / f"test.{code}")) == 6750
    assert sha256(iwslt14 / "text" / f"test.{code}") == PERL[code]


@pytest.mark.parametrize(("code", "different"), [("de", 16), ("en", 15)])
def test_sacremoses_alone_differs_only_where_a_last_word_keeps_its_stop(iwslt14, code, different):
    from sacremoses import MosesTokenizer

    moses = MosesTokenizer(lang=code)
    parts = sorted((iwslt14 / "work" / "clean" / "test").glob(f"*.{code}"))
    raw = [line for part in parts for line in lines(part)]
    ours = lines(iwslt14 / "text" / f"test.{code}")
    alone = [moses.tokenize(line, return_str=True).lower() for line in raw]
    changed = [a for a, b in zip(alone, ours, strict=True) if a != b]
    assert len(changed) == different
    assert all(part_final_stop(line) != line for line in changed)


def test_multi30k_has_its_published_numbers_of_lines(tmp_path, prepare, shared):
    arguments = [
        "multi30k-en-de",
        "--from-local",
        shared / "multi30k",
        "--out",
        tmp_path / "out",
        "--workers",
        "1",
        "--set",
        "preparations.modern.subword.sentencepiece.vocab_size=2000",
    ]
    assert prepare(*arguments)[0] == 0
    found = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    published = {"train": 29_000, "valid": 1_014, "test": 1_000, "test1": 1_000, "test2": 461}
    assert {name: split["pairs"] for name, split in found["splits"].items()} == published
    assert all(split["as_expected"] for split in found["splits"].values())
    assert {file["checked"] for file in found["files"].values()} == {"sha256"}
    assert "nothing to do" in prepare(*arguments)[1]


@pytest.mark.parametrize(
    ("recipe", "splits", "published"),
    [
        ("wmt14-en-de", "test", {"test": 3_003}),
        ("wmt16-en-de", "valid,test,test1", {"valid": 3_000, "test": 3_003, "test1": 2_999}),
        ("wmt17-en-de", "valid,test", {"valid": 2_999, "test": 3_004}),
        ("wmt16-en-ro", "valid,test", {"valid": 1_999, "test": 1_999}),
    ],
)
def test_wmt_sets_have_their_published_numbers_of_lines(
    tmp_path, prepare, shared, recipe, splits, published
):
    status, _, error = prepare(
        recipe,
        "--from-local",
        shared / "wmt",
        "--out",
        tmp_path / "out",
        "--splits",
        splits,
        "--workers",
        "1",
    )
    assert (status, error) == (0, "")
    found = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert {name: split["lines"] for name, split in found["splits"].items()} == published
    assert all(split["as_expected"] for split in found["splits"].values())


def test_the_tatoeba_zip_is_split_by_english_sentence(tmp_path, prepare, shared):
    status, said, _ = prepare(
        "tatoeba-de-en",
        "--from-local",
        shared / "tatoeba",
        "--out",
        tmp_path / "out",
        "--workers",
        "1",
        "--set",
        "preparations.modern.clean.filters.max_chars=25",
        "--set",
        "preparations.modern.subword.sentencepiece.vocab_size=2000",
    )
    assert status == 0 and "169,197 pairs" in said
    english = {
        s: set(lines(tmp_path / "out" / "text" / f"{s}.en")) for s in ("train", "valid", "test")
    }
    assert not english["train"] & english["test"] and not english["valid"] & english["test"]
    assert 200 < len(english["test"]) < 2_000


def test_europarl_is_prepared_as_ones_own_files(tmp_path, prepare, shared):
    files = [
        shared / "europarl.de-en" / f"europarl-v7.head20k.de-en.{code}.gz" for code in ("de", "en")
    ]
    status, _, error = prepare(
        "custom",
        "--source-lang",
        "de",
        "--target-lang",
        "en",
        "--train",
        *files,
        "--out",
        tmp_path / "out",
        "--workers",
        "1",
        "--set",
        "preparations.modern.subword.sentencepiece.vocab_size=4000",
    )
    assert (status, error) == (0, "")
    found = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    steps = {step["step"]: step for step in found["splits"]["train"]["steps"]}
    assert steps["extract"]["out"] == 20_000
    assert 19_000 < found["splits"]["train"]["pairs"] < 20_000
    assert found["splits"]["valid"]["statistics"]["de"]["unknown"] == 0
