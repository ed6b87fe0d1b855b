"""What all tests of data-prep share: a small corpus, and the command as a function."""

import gzip
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "data-prep"))

WORDS = {
    "en": "a the man woman dog child red blue runs sits stands plays in on under street".split(),
    "de": "ein der Mann Frau Hund Kind rot blau läuft sitzt steht spielt in auf Straße".split(),
}


def make_sentences(code, count, seed=1):
    """Different sentences of 4 to 9 words, the same ones every time."""
    words = WORDS[code]
    lines = []
    for number in range(count):
        state = number * 2654435761 + seed
        line = []
        for _ in range(4 + number % 6):
            state = (state * 1103515245 + 12345) % 2**31
            line.append(words[(state >> 8) % len(words)])
        lines.append(" ".join(line) + f" {number}.")
    return lines


def write_text(path, lines):
    """Write lines as UTF-8, gzip-compressed if the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


@pytest.fixture()
def sentences():
    """The function `make_sentences`."""
    return make_sentences


@pytest.fixture()
def write():
    """The function `write_text`."""
    return write_text


@pytest.fixture()
def corpus(tmp_path):
    """A folder with 300 training pairs and 40 pairs each for validation and test."""
    folder = tmp_path / "corpus"
    for split, count, seed in (("train", 300, 1), ("valid", 40, 2), ("test", 40, 3)):
        for code in ("en", "de"):
            write_text(folder / f"{split}.{code}", make_sentences(code, count, seed))
    return folder


@pytest.fixture()
def custom(corpus):
    """Arguments that prepare the small corpus in the main process."""
    splits = [
        argument
        for split in ("train", "valid", "test")
        for argument in (f"--{split}", str(corpus / f"{split}.en"), str(corpus / f"{split}.de"))
    ]
    return [
        "custom",
        "--source-lang",
        "en",
        "--target-lang",
        "de",
        *splits,
        "--workers",
        "1",
        "--set",
        "preparations.modern.subword.sentencepiece.vocab_size=400",
        "--set",
        "preparations.published.subword.bpe.merges=60",
    ]


@pytest.fixture()
def prepare(capsys):
    """The command: returns exit status, standard output and standard error."""
    from prepare import main

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def shared():
    """The folder with real data, or a skip."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data is not at {folder}")
    return folder
