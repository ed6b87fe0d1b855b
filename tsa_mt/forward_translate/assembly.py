"""The finished chunks as a corpus: checked, and binarised with the dictionaries of the original."""

import os
import shutil
from pathlib import Path

import numpy as np
from fairseq import options
from fairseq_cli import preprocess

from tsa_mt.files import write_lines
from tsa_mt.forward_translate.corpus import Corpus
from tsa_mt.forward_translate.plan import Shelf

DATA = "data-bin"


def assemble(
    corpus: Corpus, shelf: Shelf, out: Path, kept: dict[str, set[int]], workers: int = 1
) -> Path:
    """Writes the training set with the teacher's translations in place of the references.

    Args:
        corpus: The original.
        shelf: The finished chunks.
        out: Text goes to ``train.LANGUAGE`` in it, the binarised corpus to ``data-bin``.
        kept: By split, the sentences that keep their reference.
        workers: Processes that binarise.

    Returns:
        The binarised corpus: the new training set under the original dictionaries, and everything
        else of the original folder.

    Raises:
        ValueError: A sentence has no translation, or the text does not survive the way back.
    """
    shelf.tidy()
    translations = [_checked(corpus, shelf, split, kept[split]) for split in corpus.splits]
    sources = [corpus.lines(split, 0) for split in corpus.splits]
    for language, parts in zip(corpus.languages, (sources, translations), strict=True):
        write_lines(out / f"train.{language}", (line for part in parts for line in part))
    partial = out / f".{DATA}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    _binarise(corpus, out / "train", partial, workers)
    _compare_sources(corpus, partial)
    for path in corpus.other_files():
        shutil.copyfile(path, partial / path.name)
    shutil.rmtree(out / DATA, ignore_errors=True)
    os.replace(partial, out / DATA)
    return out / DATA


def _checked(corpus: Corpus, shelf: Shelf, split: str, kept: set[int]) -> list[str]:
    """One translation per sentence, or the reference where that is kept."""
    found = shelf.translations(split)
    lost = [n for n, text in enumerate(found) if text is None and n not in kept]
    if lost:
        raise ValueError(
            f"{len(lost)} sentences of {split} have no translation, the first is number {lost[0]}; "
            f"delete {shelf.folder} and run again"
        )
    if kept:
        for number, reference in enumerate(corpus.lines(split, 1)):
            if number in kept:
                found[number] = reference
    return found


def _binarise(corpus: Corpus, prefix: Path, folder: Path, workers: int) -> None:
    source, target = corpus.languages
    arguments = ["--source-lang", source, "--target-lang", target, "--trainpref", prefix]
    arguments += ["--srcdict", corpus.dictionaries[0], "--tgtdict", corpus.dictionaries[1]]
    arguments += ["--destdir", folder, "--workers", workers]
    parser = options.get_preprocessing_parser()
    preprocess.main(parser.parse_args([str(argument) for argument in arguments]))


def _compare_sources(corpus: Corpus, folder: Path) -> None:
    """The source side must come back token for token, so the target side would have too."""
    made = Corpus(folder, *corpus.languages).dataset("train", 0)
    parts = [corpus.dataset(split, 0) for split in corpus.splits]
    sizes = np.concatenate([part.sizes for part in parts])
    if len(made) != len(sizes) or not np.array_equal(made.sizes, sizes):
        raise ValueError(
            f"the source side did not survive binarisation: {corpus.folder} and {folder} differ in "
            f"the length of sentences; are the dictionaries in {corpus.folder} its own?"
        )
