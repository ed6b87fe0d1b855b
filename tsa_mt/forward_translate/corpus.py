"""A folder that fairseq-preprocess wrote, and the training sentences in it."""

import itertools
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from fairseq.data import Dictionary
from fairseq.data.data_utils import infer_language_pair, load_indexed_dataset, post_process

LINES, MODELS = "origin.tsv", "origin.json"
"""Which model wrote which line of a training set, and what these models are."""
NOT_COPIED = ("preprocess.log", LINES, MODELS)


class Corpus:
    """A binarised corpus.

    Args:
        folder: What fairseq-train gets as its data.
        source: Source language; unset, as the file names say.
        target: Target language; unset, as the file names say.

    Attributes:
        languages: Source and target language.
        dictionaries: Dictionary file of each side.
        splits: Every part of the training set that fairseq-train would read: ``train``,
            ``train1``, and so on.

    Raises:
        FileNotFoundError: The folder, a dictionary or the training set is missing.
        ValueError: The languages cannot be told from the file names.
    """

    def __init__(self, folder: Path, source: str | None = None, target: str | None = None):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"data folder {folder} does not exist; name one that fairseq-preprocess wrote"
            )
        if source is None or target is None:
            source, target = infer_language_pair(str(folder))
        if source is None or target is None:
            raise ValueError(
                f"the languages of {folder} cannot be told from its file names; "
                f"give them with --source-lang and --target-lang"
            )
        self.folder, self.languages = folder, (source, target)
        self.dictionaries = tuple(folder / f"dict.{language}.txt" for language in self.languages)
        for path in self.dictionaries:
            if not path.is_file():
                raise FileNotFoundError(f"dictionary {path} does not exist")
        self._symbols = [Dictionary.load(str(path)) for path in self.dictionaries]
        self.splits = tuple(self._training_splits())
        if not self.splits:
            raise FileNotFoundError(f"{folder} holds no training set train.{source}-{target}.*")

    def _training_splits(self) -> Iterator[str]:
        for number in itertools.count():
            split = f"train{number or ''}"
            if not self.file(split, 0).is_file():
                return
            yield split

    @property
    def _pair(self) -> str:
        """The pair as the files are named, which serve both directions."""
        pairs = ("-".join(self.languages), "-".join(reversed(self.languages)))
        named = [p for p in pairs if (self.folder / f"train.{p}.{self.languages[0]}.bin").is_file()]
        return named[0] if named else pairs[0]

    def _prefix(self, split: str, side: int) -> str:
        return str(self.folder / f"{split}.{self._pair}.{self.languages[side]}")

    def file(self, split: str, side: int) -> Path:
        """The file that holds the tokens of one side of a split."""
        return Path(self._prefix(split, side) + ".bin")

    def dataset(self, split: str, side: int):
        """The indexed sentences of the source (0) or the target (1) of a split."""
        return load_indexed_dataset(self._prefix(split, side), self._symbols[side])

    def lines(self, split: str, side: int) -> Iterator[str]:
        """The sentences as text in the dictionary's symbols, subword marks and all."""
        for tokens in self.dataset(split, side):
            yield self.text(tokens, side)

    def text(self, tokens, side: int) -> str:
        """A sentence as text in the dictionary's symbols, subword marks and all."""
        return self._symbols[side].string(tokens)

    def plain(self, text: str) -> str:
        """A target sentence without the subword marks that the dictionary shows."""
        return post_process(text, self._subwords)

    @cached_property
    def _subwords(self) -> str:
        """What fairseq calls the kind of subwords of the target side."""
        symbols = self._symbols[1].symbols
        if any(symbol.startswith("\u2581") for symbol in symbols):
            return "sentencepiece"
        return "subword_nmt" if any(symbol.endswith("@@") for symbol in symbols) else "none"

    def other_files(self) -> list[Path]:
        """Everything beside the training set: other splits, subword models, notes."""
        training = tuple(f"{split}.{self._pair}." for split in self.splits)
        return [
            path
            for path in sorted(self.folder.iterdir())
            if path.is_file()
            and not path.name.startswith(training)
            and path not in self.dictionaries
            and path.name not in NOT_COPIED
        ]
