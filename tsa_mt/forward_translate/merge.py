"""``tsa-mt merge-data``: the training sets of several binarised corpora as one, each pair once.

Data diversification (Nguyen et al., NeurIPS 2020, https://arxiv.org/abs/1911.01986) trains on the
references, on what k models make of the sources, and on what k models of the opposite direction
make of the targets. `tsa-mt forward-translate` makes each part, and this puts them together.
"""

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsa_mt.files import read_lines, read_object
from tsa_mt.forward_translate.assembly import DATA, REFERENCE, Line, assemble
from tsa_mt.forward_translate.corpus import LINES, MODELS, Corpus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("out", metavar="OUT", help="folder to write; OUT/data-bin is to train on")
    parser.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="folders of fairseq-preprocess or tsa-mt forward-translate, in either direction: "
        "of equal pairs the first stays, and dictionaries and other splits are the first folder's",
    )
    parser.add_argument("-s", "--source-lang", metavar="L", help="(default: as the first DATA's)")
    parser.add_argument("-t", "--target-lang", metavar="L", help="(default: as the first DATA's)")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes that binarise (default: 1)"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT/data-bin if it exists")


def run(args: argparse.Namespace) -> int:
    """Merges the training sets.

    Raises:
        FileExistsError: OUT/data-bin exists and ``--force`` is not given.
        FileNotFoundError: A corpus is missing.
        ValueError: Two corpora have other dictionaries, or the text does not survive the way back.
    """
    out = Path(args.out)
    if (out / DATA).exists() and not args.force:
        raise FileExistsError(f"{out / DATA} exists; pass --force to replace it")
    first = Corpus(Path(args.data[0]), args.source_lang, args.target_lang)
    corpora = [first, *(Corpus(Path(folder), *first.languages) for folder in args.data[1:])]
    for corpus in corpora[1:]:
        _check_dictionaries(first, corpus)
    counts: Counter = Counter()
    out.mkdir(parents=True, exist_ok=True)
    made = assemble(first, _distinct(corpora, counts), out, _about(args, corpora), args.workers)
    doubled = counts.pop("", 0)
    for origin, count in counts.items():
        print(f"{count:>12,}  {origin}")
    print(f"{made}: {counts.total():,} pairs, {doubled:,} that were there already left out")
    return 0


def _check_dictionaries(first: Corpus, other: Corpus) -> None:
    for mine, theirs in zip(first.dictionaries, other.dictionaries, strict=True):
        if mine.read_bytes() != theirs.read_bytes():
            raise ValueError(
                f"{theirs} differs from {mine}; binarise both with the same dictionaries "
                f"(fairseq-preprocess --srcdict ... --tgtdict ...)"
            )


def _distinct(corpora: list[Corpus], counts: Counter) -> Iterator[Line]:
    """Every pair once, where it is first; counts what is kept by origin, and the rest under ''."""
    seen: set[bytes] = set()
    for corpus in corpora:
        for line in _lines(corpus):
            key = hashlib.blake2b(f"{line.source}\n{line.target}".encode(), digest_size=12).digest()
            if key in seen:
                counts[""] += 1
                continue
            seen.add(key)
            counts[line.origin] += 1
            yield line


def _lines(corpus: Corpus) -> Iterator[Line]:
    """All pairs of a corpus with their origins as far as they are known."""
    known = corpus.folder / LINES
    origins = iter(read_lines(known) if known.is_file() else ())
    for split in corpus.splits:
        sides = (corpus.lines(split, side) for side in (0, 1))
        for number, (source, target) in enumerate(zip(*sides, strict=True)):
            origin = next(origins, None)
            told = origin.split("\t") if origin else (REFERENCE, split, number)
            yield Line(source, target, *told)


def _about(args: argparse.Namespace, corpora: list[Corpus]) -> dict:
    """What ``origin.json`` says of the lines."""
    files = [corpus.folder / MODELS for corpus in corpora]
    models: dict[str, Any] = {}
    for path in files:
        models.update(read_object(path).get("models", {}) if path.is_file() else {})
    return {"columns": list(Line._fields[2:]), "data": args.data, "models": models}
