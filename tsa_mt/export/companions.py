"""What a model is useless without: its dictionaries and the subword model of its training data."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from tsa_mt.export.pieces import SHARE, is_sentencepiece, share_made
from tsa_mt.files import PathLike
from tsa_mt.textfile import refuse_wrapped

# The names under which fairseq's `from_pretrained` recognises a subword model by itself.
SENTENCEPIECE = "sentencepiece.bpe.model"
BPE_CODES = "bpecodes"

_CODES = ("code", "codes", "bpecodes", "*.codes", "codes.*", "*.bpecodes")

Languages = Tuple[Optional[str], Optional[str]]
"""Source and target, as far as they are known."""


@dataclass(frozen=True)
class Companions:
    """Files that travel with a model.

    Attributes:
        languages: Source and target language codes.
        dictionaries: Path of the fairseq dictionary of each side, source first.
        subwords: Subword model files, by the name they get in an export; empty if none was found.
    """

    languages: Tuple[str, str]
    dictionaries: Tuple[Path, Path]
    subwords: Dict[str, Path]

    @property
    def files(self) -> Dict[str, Path]:
        """Everything to copy, by name in the export."""
        names = [f"dict.{language}.txt" for language in self.languages]
        return {**dict(zip(names, self.dictionaries, strict=True)), **self.subwords}

    @property
    def bpe(self) -> Optional[str]:
        """fairseq's name for the subword method, ``None`` if there is no single joint model."""
        if len(self.subwords) != 1:
            return None
        return {SENTENCEPIECE: "sentencepiece", BPE_CODES: "subword_nmt"}.get(*self.subwords)


def find_companions(
    task: dict, checkpoint: PathLike, data: Optional[PathLike] = None
) -> Companions:
    """Finds the dictionaries and the subword model of a checkpoint.

    The subword model is looked for in the data folder, in the folder above it, and in that
    folder's ``subword``, where data-prep keeps it.

    Args:
        task: The checkpoint's task options.
        checkpoint: Path of the checkpoint, from which a relative data path may be meant.
        data: The folder to use instead of the one the checkpoint was trained on.

    Raises:
        FileNotFoundError: The data folder or a dictionary does not exist.
        ValueError: The language pair is unknown, or several subword models compete.
    """
    folder = _data_folder(task, Path(checkpoint), data)
    languages = _languages(task, folder)
    source, target = (folder / f"dict.{language}.txt" for language in languages)
    dictionaries = (source, target)
    missing = [str(path) for path in dictionaries if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"dictionary {' and '.join(missing)} does not exist; "
            f"name the folder that holds it with --data"
        )
    for path in dictionaries:
        refuse_wrapped(path)
    subwords = find_subwords(folder, languages, _symbols(dictionaries[0]))
    return Companions(languages, dictionaries, subwords)


def _symbols(dictionary: Path) -> List[str]:
    """The symbols of a fairseq dictionary, which end before the count."""
    lines = dictionary.read_text(encoding="utf-8").split("\n")
    return [line.removesuffix(" #fairseq:overwrite").rpartition(" ")[0] for line in lines if line]


def _data_folder(task: dict, checkpoint: Path, data: Optional[PathLike]) -> Path:
    """The data-bin: as given, as recorded, or as recorded but relative to where the model lies."""
    if data is not None:
        if not Path(data).is_dir():
            raise FileNotFoundError(f"--data {data} is not a folder")
        return Path(data)
    recorded = Path(str(task.get("data") or ".").split(os.pathsep)[0])
    bases = [Path("."), *checkpoint.resolve().parents] if task.get("data") else [checkpoint.parent]
    for base in bases:
        if (base / recorded).is_dir() and list((base / recorded).glob("dict.*.txt")):
            return base / recorded
    raise FileNotFoundError(
        f"the data folder '{recorded}' that {checkpoint} was trained on is not there or holds no "
        f"dictionaries; name it with --data"
    )


def _languages(task: dict, folder: Path) -> Tuple[str, str]:
    """The language pair: as the task says, else from the names of the binarised files."""
    if task.get("source_lang") and task.get("target_lang"):
        return task["source_lang"], task["target_lang"]
    from fairseq.data.data_utils import infer_language_pair  # not above: CTranslate2 does without

    source, target = infer_language_pair(str(folder))
    if source is None or target is None:
        raise ValueError(
            f"the checkpoint does not name its languages and {folder} has no binarised split to "
            f"tell them from; name the data-bin it was trained on with --data"
        )
    return source, target


def find_subwords(
    folder: Path,
    languages: Languages,
    symbols: Sequence[str],
    above: bool = True,
) -> Dict[str, Path]:
    """The subword model in the nearest folder that has one.

    Args:
        folder: Where to look first.
        languages: Source and target, which may be in the names of two models.
        symbols: The source dictionary's. A model above the folder that does not make these pieces
            belongs to something else and is passed over.
        above: Whether to look in the folder above it, and in that folder's ``subword``, too.

    Returns:
        Paths by the names they get in an export; empty if there is none.

    Raises:
        ValueError: Several subword models compete, or that of the folder is not the dictionary's.
    """
    models, codes = _subword_files(folder)
    if models or codes:
        chosen = _single_or_pair(models or codes, languages)
        _refuse_foreign(_of_source(chosen, languages), symbols)
        return chosen
    parent = folder.resolve().parent
    for place in (parent, parent / "subword") if above else ():
        for files in _subword_files(place):
            found = [path for path in files if _may_belong(path, languages, symbols)]
            if found:
                return _single_or_pair(found, languages)
    return {}


def _subword_files(place: Path) -> Tuple[List[Path], List[Path]]:
    """The SentencePiece models of a folder, and its codes of subword-nmt."""
    models = [path for path in sorted(place.glob("*.model")) if is_sentencepiece(path)]
    return models, sorted({path for pattern in _CODES for path in place.glob(pattern)})


def _may_belong(path: Path, languages: Languages, symbols: Sequence[str]) -> bool:
    """Whether it makes the source's pieces, or is called after the target language."""
    return languages[1] in path.name.split(".") or share_made(path, symbols) >= SHARE


def _of_source(found: Dict[str, Path], languages: Languages) -> Path:
    """The model of the source language, where there is one for each."""
    tagged = [path for name, path in found.items() if languages[0] in name.split(".")]
    return [*tagged, *found.values()][0]


def _refuse_foreign(model: Path, symbols: Sequence[str]) -> None:
    share = share_made(model, symbols)
    if share < SHARE:
        raise ValueError(
            f"{model} is not the subword model that the dictionary was made with: it makes "
            f"{share:.0%} of its pieces; put the right one there as {SENTENCEPIECE} or {BPE_CODES}"
        )


def _single_or_pair(found: List[Path], languages: Languages) -> Dict[str, Path]:
    """A joint model under fairseq's name, or one per language under the names they have."""
    name = SENTENCEPIECE if found[0].suffix == ".model" else BPE_CODES
    named = [path for path in found if path.name == name]
    if len(found) == 1 or named:
        return {name: (named or found)[0]}
    tagged = [path for path in found if set(languages) & set(path.name.split("."))]
    if len(found) == 2 and len(tagged) == 2:
        return {path.name: path for path in found}
    raise ValueError(
        f"{found[0].parent} holds several subword models ({', '.join(p.name for p in found)}); "
        f"keep the right one there as {name}"
    )
