"""The sentences that a certificate is about: from the data of a checkpoint, or from two files."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from fairseq.data import Dictionary
from fairseq.data.data_utils import load_indexed_dataset
from torch import Tensor

from tsa_mt.evaluate.score import read_lines
from tsa_mt.export.companions import Companions
from tsa_mt.files import PathLike, read_object
from tsa_mt.translate.subwords import Codec, find_codec

SENTENCES = 500
"""Sentences that a certificate takes at least before it is called one."""
UNKNOWN = "<<unk>>"
"""What stands in a target for a piece that the dictionary lacks, so that no translation has it."""


@dataclass(frozen=True)
class Reference:
    """Sentences with their translations.

    Attributes:
        origin: Where they come from: ``{"split": ..., "folder": ...}`` of binarised data, or
            ``{"files": [source, target]}``.
        sources: Pieces of every sentence.
        targets: Text of every translation.
        total: Number of sentences there, of which these are some.
    """

    origin: Dict[str, Any]
    sources: List[List[str]]
    targets: List[str]
    total: int

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def name(self) -> str:
        """Where they come from, in words."""
        where = " and ".join(self.origin.get("files", ()))
        where = where or f"the {self.origin.get('split')} split of {self.origin.get('folder')}"
        of_all = f" of the {self.total:,}" if len(self) < self.total else ""
        return f"{len(self):,}{of_all} sentences of {where}"

    @property
    def sha256(self) -> str:
        """Checksum over the lines: a source's pieces, a tab, its target."""
        digest = hashlib.sha256()
        for pieces, target in zip(self.sources, self.targets, strict=True):
            digest.update(f"{' '.join(pieces)}\t{target}\n".encode())
        return digest.hexdigest()

    def spread(self, count: int) -> "Reference":
        """At most ``count`` of the sentences, at even distances, in their order."""
        if count >= len(self):
            return self
        chosen = [number * len(self) // count for number in range(count)]
        return dataclasses.replace(
            self,
            sources=[self.sources[number] for number in chosen],
            targets=[self.targets[number] for number in chosen],
        )


def codec_of(companions: Companions) -> Codec:
    """The subword model that belongs to a model."""
    source = Dictionary.load(str(companions.dictionaries[0]))
    place = companions.dictionaries[0].parent
    return find_codec(companions.subwords, companions.languages, source.symbols, place)


def from_files(source: PathLike, target: PathLike, companions: Companions) -> Reference:
    """Raw text, a sentence a line.

    Raises:
        FileNotFoundError: A file or the subword model does not exist.
        ValueError: The files differ in length, or are empty.
    """
    lines, targets = read_lines(source), read_lines(target)
    if len(lines) != len(targets):
        raise ValueError(
            f"--reference: {source} has {len(lines):,} lines and {target} {len(targets):,}; every "
            f"sentence needs its translation in the same line"
        )
    if not lines:
        raise ValueError(f"--reference: {source} is empty; it needs a sentence a line")
    codec = codec_of(companions)
    pieces = [codec.encode(line) for line in lines]
    return Reference({"files": [str(source), str(target)]}, pieces, targets, len(lines))


def from_certificate(path: PathLike, companions: Companions) -> Optional[Reference]:
    """The sentences that an earlier export's certificate names, where they are still there.

    Args:
        path: The certificate.
        companions: The files that belong to the model.

    Returns:
        ``None`` if there is no such certificate, or its sentences are gone.
    """
    try:
        origin = read_object(path)["reference"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    files = origin.get("files") or []
    if files and all(Path(file).is_file() for file in files):
        return from_files(files[0], files[1], companions)
    return from_data(companions, [Path(origin["folder"])]) if origin.get("folder") else None


def from_data(companions: Companions, folders: Sequence[Path]) -> Optional[Reference]:
    """The validation set of a checkpoint's data, else its test set.

    Args:
        companions: The files that belong to the model.
        folders: Where binarised data may lie.

    Returns:
        ``None`` if no folder has either.
    """
    for split in ("valid", "test"):
        for folder in folders:
            found = _read_split(folder, split, companions)
            if found is not None:
                return found
    return None


def _read_split(folder: Path, split: str, companions: Companions) -> Optional[Reference]:
    """One binarised split with at least one sentence, if the folder has it."""
    prefixes = _prefixes(folder, split, companions.languages)
    if prefixes is None:
        return None
    dictionaries = [Dictionary.load(str(path)) for path in companions.dictionaries]
    sources, targets = (
        load_indexed_dataset(str(prefix), dictionary)
        for prefix, dictionary in zip(prefixes, dictionaries, strict=True)
    )
    if sources is None or targets is None or not len(sources):
        return None
    codec = codec_of(companions)
    return Reference(
        {"split": split, "folder": str(folder)},
        [_pieces(dictionaries[0], tokens) for tokens in sources],
        [codec.decode(_pieces(dictionaries[1], tokens, UNKNOWN)) for tokens in targets],
        len(sources),
    )


def _pieces(dictionary: Dictionary, tokens: Tensor, unknown: str = "<unk>") -> List[str]:
    numbers = [number for number in tokens.tolist() if number != dictionary.eos()]
    return [unknown if number == dictionary.unk() else dictionary[number] for number in numbers]


def _prefixes(folder: Path, split: str, languages: Tuple[str, str]) -> Optional[Tuple[Path, Path]]:
    """Paths of a split's two sides without their endings; the pair may be named either way."""
    for pair in ("-".join(languages), "-".join(reversed(languages))):
        source, target = (folder / f"{split}.{pair}.{language}" for language in languages)
        if all(path.with_name(f"{path.name}.idx").is_file() for path in (source, target)):
            return source, target
    return None
