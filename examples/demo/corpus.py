"""An English-German corpus made on the spot: real reordering and agreement, no download.

    python corpus.py OUT [--train N] [--valid N] [--test N] [--seed N]

writes OUT/{train,valid,test}.{en,de}, one sentence a line, and prints how much the splits share.
The same Babel version and seed give the same files, on any machine and in any process.
"""

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Set, Tuple

try:
    from sentences import Sampler
except ModuleNotFoundError as error:
    if error.name != "babel":
        raise
    sys.exit("corpus.py: error: Babel is not installed; run: python -m pip install 'tsa-mt[demo]'")

SIZES = {"train": 24_000, "valid": 1_000, "test": 1_000}
PATIENCE = 1_000  # fruitless draws in a row after which a size is called impossible


@dataclass
class Split:
    """The sentences of one split and what they were made of.

    Attributes:
        pairs: English and German sentences; no English sentence occurs twice.
        combinations: Every (template, slot, filler) in them.
        templates: Every template in them.
    """

    pairs: List[Tuple[str, str]] = field(default_factory=list)
    combinations: Set[Tuple[str, str, str]] = field(default_factory=set)
    templates: Set[str] = field(default_factory=set)

    @property
    def fillers(self) -> Set[str]:
        """Every filler, wherever it stands."""
        return {filler for _, _, filler in self.combinations}

    def sentences(self, side: int) -> Set[str]:
        """Every sentence of the English (0) or the German (1) side."""
        return {pair[side] for pair in self.pairs}

    def words(self, side: int) -> Set[str]:
        """Every word of the English (0) or the German (1) side."""
        return {word.strip(".,?") for pair in self.pairs for word in pair[side].split()}


def make_corpus(sizes: Dict[str, int], seed: int = 1) -> Dict[str, Split]:
    """Draw all splits, the training split first.

    Args:
        sizes: Number of sentence pairs of ``train``, ``valid`` and ``test``.
        seed: Seed of all choices.

    Raises:
        ValueError: A size is not positive, or larger than the templates allow.
    """
    splits = {"train": draw("train", sizes["train"], seed, Split(), set())}
    seen = {english for english, _ in splits["train"].pairs}
    for name in ("valid", "test"):
        splits[name] = draw(name, sizes[name], seed, splits["train"], seen)
        seen |= {english for english, _ in splits[name].pairs}
    return splits


def draw(name: str, size: int, seed: int, train: Split, seen: Set[str]) -> Split:
    """Draw one split; outside the training split only what is made of known parts is taken.

    Args:
        name: ``train``, ``valid`` or ``test``.
        size: Number of sentence pairs.
        seed: Seed of all choices.
        train: The training split, empty while it is itself being drawn.
        seen: English sentences that may not occur again.
    """
    if size < 1:
        raise ValueError(f"the size of {name} must be at least 1, got {size}")
    sampler, split, english_seen = Sampler(name, seed), Split(), set(seen)
    known = train.fillers
    fruitless = 0
    while len(split.pairs) < size:
        pair = sampler.sentence()
        fillers = {filler for _, _, filler in sampler.used}
        known_parts = not train.pairs or (
            fillers <= known and train.templates.issuperset(sampler.templates)
        )
        if pair[0] in english_seen or not known_parts:
            fruitless += 1
            if fruitless == PATIENCE:
                raise ValueError(
                    f"only {len(split.pairs)} different sentences for {name} found, {size} wanted; "
                    f"ask for fewer, or for a larger train split"
                )
            continue
        fruitless = 0
        english_seen.add(pair[0])
        split.pairs.append(pair)
        split.combinations.update(sampler.used)
        split.templates.update(sampler.templates)
    return split


def overlap(splits: Dict[str, Split]) -> str:
    """What the test split shares with the training split, as text."""
    train, test = splits["train"], splits["test"]
    rows = [
        ("test sources that occur in train", test.sentences(0), train.sentences(0)),
        ("test targets that occur in train", test.sentences(1), train.sentences(1)),
        ("(template, slot, filler) of test in train", test.combinations, train.combinations),
        ("templates of test in train", test.templates, train.templates),
        ("fillers of test in train, elsewhere", test.fillers, train.fillers),
        ("German words of test in train", test.words(1), train.words(1)),
    ]
    return "\n".join(f"{label:42} {len(a & b):6,} of {len(a):6,}" for label, a, b in rows)


def write(splits: Dict[str, Split], out: Path) -> None:
    """Write every split as two text files; a file appears under its name only when complete."""
    out.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        for side, language in enumerate(("en", "de")):
            target = out / f"{name}.{language}"
            beside = target.with_suffix(f".{language}.tmp")
            beside.write_text("".join(pair[side] + "\n" for pair in split.pairs), encoding="utf-8")
            os.replace(beside, target)


def main() -> None:
    """Make the corpus, write it, and print sizes and overlap."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the text files")
    for name, size in SIZES.items():
        text = f"sentence pairs in {name} ({size})"
        parser.add_argument(f"--{name}", type=int, default=size, metavar="N", help=text)
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of all choices (1)")
    args = parser.parse_args()
    try:
        splits = make_corpus({name: getattr(args, name) for name in SIZES}, args.seed)
    except ValueError as error:
        sys.exit(f"corpus.py: error: {error}")
    write(splits, args.out)
    print(*(f"{name} {len(split.pairs):,}" for name, split in splits.items()), "sentence pairs")
    print(overlap(splits))


if __name__ == "__main__":
    main()
