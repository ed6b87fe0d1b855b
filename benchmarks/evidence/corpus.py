"""A small corpus cut from a larger one: nested samples of Multi30k as fairseq data.

The training pairs are put into one order, fixed by a seed. A sample is the beginning of that
order, so that the small samples are part of the large ones. The joint subword model is learnt on
the sample alone: the rest of the training text stays unseen. The validation set and the three test
sets are always whole. For decoding they stand one behind the other in one split, so that a run is
translated by one process.
"""

import gzip
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple

LANGUAGES = ("en", "de")
TRAIN, VALID = "train", "val"
TEST_SETS = ("test_2016_flickr", "test_2017_flickr", "test_2017_mscoco")
LINES = {"train": 29000, "val": 1014, **dict(zip(TEST_SETS, (1000, 1000, 461)))}
DECODED = (VALID, *TEST_SETS)
EVERYTHING = "decoded"
ORDER_SEED = 1
MODEL = "sentencepiece.bpe.model"


class Corpus(NamedTuple):
    """What tells one prepared corpus from another.

    Attributes:
        sentences: Training pairs, from 1 to 29,000.
        vocabulary: Pieces of the joint subword model.
    """

    sentences: int
    vocabulary: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"multi30k-{self.sentences}-bpe{self.vocabulary}"


def sample(lines: int, count: int) -> List[int]:
    """Line numbers of a sample, from 0, in the order of the sample.

    Args:
        lines: Lines that there are.
        count: Lines to take.

    Raises:
        ValueError: There are fewer lines than are asked for, or none is asked for.
    """
    if not 0 < count <= lines:
        raise ValueError(f"a sample of {count:,} sentences is asked for; take 1 to {lines:,}")
    order = list(range(lines))
    random.Random(ORDER_SEED).shuffle(order)
    return order[:count]


def prepare(corpus: Corpus, data: Path, work: Path) -> Path:
    """Makes the corpus unless it is there: raw text, pieces, fairseq data.

    Args:
        corpus: What to make.
        data: Folder with ``multi30k/train.en.gz`` and the other files of task 1, raw.
        work: Folder that the corpus is made in.

    Returns:
        The folder: ``raw`` (plain text, one sentence a line) and ``data-bin``, which holds the
        subword model, too.

    Raises:
        FileNotFoundError: A file of Multi30k is missing.
        ValueError: A file has not its published number of lines.
    """
    folder = work / "corpora" / corpus.name
    if (folder / "data-bin" / MODEL).is_file():
        return folder
    partial = folder.with_name(f".{corpus.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        texts = _raw(corpus, data)
        _write(texts, partial / "raw")
        _encode(corpus, texts, partial)
        _binarise(partial)
        shutil.copy(partial / "spm.model", partial / "data-bin" / MODEL)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _raw(corpus: Corpus, data: Path) -> Dict[str, List[str]]:
    """Lines of every file by name, the training text cut to the sample."""
    texts = {f"{s}.{code}": raw_lines(data, s, code) for s in LINES for code in LANGUAGES}
    chosen = sample(LINES[TRAIN], corpus.sentences)
    for code in LANGUAGES:
        lines = texts[f"{TRAIN}.{code}"]
        texts[f"{TRAIN}.{code}"] = [lines[number] for number in chosen]
        texts[f"{EVERYTHING}.{code}"] = [line for s in DECODED for line in texts[f"{s}.{code}"]]
    return texts


def raw_lines(data: Path, split: str, language: str) -> List[str]:
    """Lines of one published file.

    Raises:
        FileNotFoundError: It is missing.
        ValueError: It has not its published number of lines.
    """
    path, count = data / "multi30k" / f"{split}.{language}.gz", LINES[split]
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; name the folder that holds multi30k/ (task 1, raw, from "
            f"github.com/multi30k/dataset) with --data or TSA_MT_DATA"
        )
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").removesuffix("\n").split("\n")
    if len(lines) != count:
        raise ValueError(f"{path} has {len(lines):,} lines; the published file has {count:,}")
    return lines


def _write(texts: Dict[str, List[str]], folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, lines in texts.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _encode(corpus: Corpus, texts: Dict[str, List[str]], folder: Path) -> None:
    """Learns the joint model on the sample, in one thread so that it never varies, and encodes."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        input=[str(folder / "raw" / f"{TRAIN}.{code}") for code in LANGUAGES],
        model_prefix=str(folder / "spm"),
        model_type="bpe",
        vocab_size=corpus.vocabulary,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    rows = {
        name: [" ".join(row) for row in processor.encode(lines, out_type=str)]
        for name, lines in texts.items()
    }
    _write(rows, folder / "pieces")


def _binarise(folder: Path) -> None:
    """Runs fairseq-preprocess.

    Raises:
        RuntimeError: It failed.
    """
    pieces = folder / "pieces"
    command = [
        *(sys.executable, "-m", "fairseq_cli.preprocess", "--joined-dictionary"),
        *("--source-lang", LANGUAGES[0], "--target-lang", LANGUAGES[1]),
        *("--trainpref", pieces / TRAIN, "--validpref", pieces / VALID),
        *("--testpref", pieces / EVERYTHING, "--destdir", folder / "data-bin"),
    ]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"fairseq-preprocess failed: {done.stderr.strip().splitlines()[-1]}")
