"""The chosen translations as a corpus: complete, binarised with the dictionaries of the original.

`Lines` is a training set on its way: pairs of texts, and for each what wrote it. Beside the
binarised corpus ``origin.tsv`` says that line by line and ``origin.json`` what the models are.
"""

import contextlib
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fairseq import options
from fairseq_cli import preprocess

from tsa_mt.files import write_json, writing
from tsa_mt.forward_translate.corpus import LINES, MODELS, Corpus
from tsa_mt.forward_translate.plan import Shelf
from tsa_mt.forward_translate.selection import Selection

DATA = "data-bin"
REFERENCE = "reference"
"""What wrote a line that is the corpus' own."""


class Line(NamedTuple):
    """A pair of the new training set, in the dictionaries' symbols.

    Attributes:
        source: Source side.
        target: Target side.
        origin: Which model wrote the machine-made side, or ``reference``.
        split: The part of the training set that it comes from.
        number: The sentence's number there, from 0.
        rank: Which of the model's hypotheses it is, from 1; 0 for a reference.
        score: The model's score of it; empty where there is none.
    """

    source: str
    target: str
    origin: str
    split: str
    number: int
    rank: int = 0
    score: str = ""


def translated_lines(
    corpus: Corpus, shelf: Shelf, selection: Selection, kept: dict[str, set[int]], model: str
) -> Iterator[Line]:
    """Every sentence of the training set once, with the chosen translation.

    Args:
        corpus: The original.
        shelf: The finished chunks.
        selection: Which of the hypotheses is taken.
        kept: By split, the sentences that keep their reference.
        model: What the teacher is called.

    Raises:
        ValueError: A sentence has no translation.
    """
    shelf.tidy()
    for split in corpus.splits:
        chosen = _chosen(corpus, shelf, split, selection)
        lost = [n for n, found in enumerate(chosen) if found is None and n not in kept[split]]
        if lost:
            raise ValueError(
                f"{len(lost)} sentences of {split} have no translation, the first is number "
                f"{lost[0]}; delete {shelf.folder} and run again"
            )
        targets = corpus.dataset(split, 1) if kept[split] else ()
        for number, source in enumerate(corpus.lines(split, 0)):
            if number in kept[split]:
                reference = corpus.text(targets[number], 1)
                yield Line(source, reference, REFERENCE, split, number)
            elif (found := chosen[number]) is not None:
                text, rank, score = found
                yield Line(source, text, model, split, number, rank, score)


def _chosen(
    corpus: Corpus, shelf: Shelf, split: str, selection: Selection
) -> list[tuple[str, int, str] | None]:
    """Text, rank and score by sentence; ``None`` where there is no hypothesis."""
    references = corpus.dataset(split, 1) if selection.reads_references else None
    chosen: list[tuple[str, int, str] | None] = [None] * shelf.plan.sentences[split]
    for number, hypotheses in shelf.hypotheses(split):
        reference = "" if references is None else corpus.text(references[number], 1)
        best = selection.choose(hypotheses, reference)
        text, score = hypotheses[best]
        chosen[number] = (text, best + 1, "" if score is None else f"{score:.6f}")
    return chosen


def assemble(
    corpus: Corpus, lines: Iterable[Line], out: Path, about: dict, workers: int = 1
) -> Path:
    """Writes a training set.

    Args:
        corpus: Has the dictionaries and everything beside the training set.
        lines: The pairs; they are read once.
        out: Text goes to ``train.LANGUAGE`` in it, the binarised corpus to ``data-bin``.
        about: What ``origin.json`` holds: the models and how they were used.
        workers: Processes that binarise.

    Returns:
        The binarised corpus: the new training set under the original dictionaries, and everything
        else of the original folder.

    Raises:
        ValueError: The text does not survive the way back.
    """
    partial = out / f".{DATA}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    sizes = _write_text(lines, [out / f"train.{each}" for each in corpus.languages], partial)
    _binarise(corpus, out / "train", partial, workers)
    _compare_sizes(corpus, sizes, partial)
    for path in corpus.other_files():
        shutil.copyfile(path, partial / path.name)
    write_json(partial / MODELS, about)
    shutil.rmtree(out / DATA, ignore_errors=True)
    os.replace(partial, out / DATA)
    return out / DATA


def _write_text(lines: Iterable[Line], sides: list[Path], folder: Path) -> list[array]:
    """Writes both sides and the origins; the lengths of the sentences of each side."""
    sizes = [array("I"), array("I")]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(writing(path)) for path in (*sides, folder / LINES)]
        for line in lines:
            for side, text in enumerate(line[:2]):
                files[side].write(f"{text}\n".encode())
                sizes[side].append(1 + (text.count(" ") + 1 if text else 0))  # the end mark
            files[2].write(("\t".join(map(str, line[2:])) + "\n").encode())
    return sizes


def _binarise(corpus: Corpus, prefix: Path, folder: Path, workers: int) -> None:
    source, target = corpus.languages
    arguments = ["--source-lang", source, "--target-lang", target, "--trainpref", prefix]
    arguments += ["--srcdict", corpus.dictionaries[0], "--tgtdict", corpus.dictionaries[1]]
    arguments += ["--destdir", folder, "--workers", workers]
    parser = options.get_preprocessing_parser()
    preprocess.main(parser.parse_args([str(argument) for argument in arguments]))


def _compare_sizes(corpus: Corpus, sizes: list[array], folder: Path) -> None:
    """Every sentence must come back with as many tokens as its text has symbols."""
    made = Corpus(folder, *corpus.languages)
    for side, expected in enumerate(sizes):
        dataset = made.dataset("train", side)  # its sizes are read from memory that goes with it
        if not np.array_equal(dataset.sizes, np.array(expected)):
            raise ValueError(
                f"the {('source', 'target')[side]} side did not survive binarisation: {folder} has "
                f"other sentence lengths than the text in {folder.parent}; are the dictionaries in "
                f"{corpus.folder} its own?"
            )
