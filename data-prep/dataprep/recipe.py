"""Recipes: what a corpus consists of and how it is prepared, read from YAML and checked.

A recipe is data. Every key is known and typed; whatever is wrong with one is reported at once.
"""

import dataclasses
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import yaml

from dataprep.errors import DataError

FOLDER = Path(__file__).resolve().parent.parent / "recipes"


@dataclass(frozen=True)
class Download:
    """A public file.

    Attributes:
        urls: Mirrors, tried in turn.
        sha256: Checksum, where one is known.
        md5: Checksum of publishers who give only that.
        bytes: Size, where known.
    """

    urls: List[str] = field(default_factory=list)
    sha256: Optional[str] = None
    md5: Optional[str] = None
    bytes: Optional[int] = None


@dataclass(frozen=True)
class Piece:
    """A part of a split: two aligned files, or one file with both sides.

    Attributes:
        name: Name in the manifest.
        format: ``text``, ``sgm`` (also WIT3's XML), ``tsv`` or ``tmx``; None tells it by content.
        files: For each language, ``ARCHIVE//MEMBER`` or a file; for ``tsv`` and ``tmx`` one entry
            ``both``. A string with ``{lang}`` stands for one entry per language.
        lines: Published number of pairs.
        plain: File names with ``{lang}``, under which the piece may lie as plain text.
        columns: Columns of a ``tsv`` by language, counted from 0 or by their names in its first
            line; may be left out where there are two, or where they are named by the languages.
        tags: Language tags to take from a ``tmx``, by language, where they are others.
        drop: Lines that hold one of these strings are no sentences (``text``).
        replace: Strings to replace, in order, while the text is read.
        carriage_returns: Whether carriage returns are tolerated and become spaces.
        sacrebleu: Name of the sacreBLEU test set that carries this text.
    """

    name: str
    files: Dict[str, str]
    format: Optional[str] = None
    lines: Optional[int] = None
    plain: List[str] = field(default_factory=list)
    columns: Dict[str, Union[int, str]] = field(default_factory=dict)
    tags: Dict[str, str] = field(default_factory=dict)
    drop: List[str] = field(default_factory=list)
    replace: Dict[str, str] = field(default_factory=dict)
    carriage_returns: bool = False
    sacrebleu: Optional[str] = None


@dataclass(frozen=True)
class HoldOut:
    """How a split is taken out of the training text, after cleaning and tokenisation.

    Attributes:
        every: Take each line whose number (from 1) is a multiple of this.
        per_mille: Take the sentences whose hash falls into this many thousandths ...
        by: ... hashing the text of this language, so that one sentence is in one split only.
        at_least: With `per_mille`: take more thousandths where these would be fewer lines than
            this, up to a tenth of the text.
    """

    every: Optional[int] = None
    per_mille: Optional[int] = None
    by: Optional[str] = None
    at_least: int = 0


@dataclass(frozen=True)
class Split:
    """One of train, valid, test, test1, ...: pieces, or lines held out of train."""

    pieces: List[Piece] = field(default_factory=list)
    hold_out: Optional[HoldOut] = None


@dataclass(frozen=True)
class Filters:
    """Which training pairs are kept, by length on either side.

    Words are what spaces separate; where a script writes none, one for every five letters.

    Attributes:
        min_words: Fewest words.
        max_words: Most words.
        word_ratio: Largest ratio of the longer to the shorter side, in words.
        max_word_chars: Most characters in one word.
        max_chars: Most characters in a sentence.
        char_ratio: Largest ratio of the longer to the shorter side, in characters. A Han character
            counts as three, a syllable of Kana or Hangul as two.
    """

    min_words: Optional[int] = None
    max_words: Optional[int] = None
    word_ratio: Optional[float] = None
    max_word_chars: Optional[int] = None
    max_chars: Optional[int] = None
    char_ratio: Optional[float] = None


@dataclass(frozen=True)
class Clean:
    """What happens to a line before it is tokenised.

    Attributes:
        unescape: Whether ``&amp;`` and the like become characters, where a semicolon ends them.
        punctuation: Whether punctuation is normalised by Moses' rules.
        control_characters: Whether control characters become spaces, and soft hyphens and marks of
            direction nothing.
        characters: Characters to replace, by language.
        evaluation_characters: Characters to replace in validation and test sets only.
        training_only: Whether all but this leaves validation and test sets alone.
        empty: Whether training pairs with an empty side are dropped.
        filters: Length limits for training pairs.
        identical: Whether training pairs with two equal sides are dropped.
        duplicates: Whether a training pair seen before is dropped.
        held_out: Whether training pairs are dropped of which a side is in the validation or a test
            set; they are counted in any case.
        languages: Whether training pairs in another language are dropped (needs py3langid).
    """

    unescape: bool = False
    punctuation: bool = False
    control_characters: bool = False
    characters: Dict[str, Dict[str, str]] = field(default_factory=dict)
    evaluation_characters: Dict[str, str] = field(default_factory=dict)
    training_only: bool = False
    empty: bool = True
    filters: Filters = Filters()
    identical: bool = False
    duplicates: bool = False
    held_out: bool = True
    languages: bool = False


@dataclass(frozen=True)
class Tokenise:
    """Moses tokenisation (sacremoses), lower-casing, and limits in tokens.

    Attributes:
        aggressive_hyphens: Whether ``a-b`` becomes ``a @-@ b``.
        lowercase: Whether the text is lower-cased.
        filters: Length limits for training pairs, in tokens.
    """

    aggressive_hyphens: bool = False
    lowercase: bool = False
    filters: Filters = Filters()


@dataclass(frozen=True)
class SentencePiece:
    """A joint SentencePiece model.

    Attributes:
        vocab_size: Pieces; fewer are made where a small text does not hold that many.
        model_type: ``bpe``, or ``unigram``, which takes ten times as long to learn.
        sample: Most lines, of both languages together, that the model is learned from.
        character_coverage: Share of characters that get a piece; the rest become bytes.
        byte_fallback: Whether unknown characters are spelled as bytes.
        normalisation: SentencePiece's rule by which the model changes text before it is cut:
            ``nmt_nfkc``, ``nfkc``, ``nmt_nfkc_cf``, ``nfkc_cf`` or ``identity``. None:
            ``nmt_nfkc``, SentencePiece's default, for Latin, Greek and Cyrillic text, and
            ``identity`` where the training text has letters of other scripts.
    """

    vocab_size: int
    model_type: str = "bpe"
    sample: int = 1_000_000
    character_coverage: float = 0.9999
    byte_fallback: bool = True
    normalisation: Optional[str] = None


@dataclass(frozen=True)
class Bpe:
    """Joint byte-pair encoding by subword-nmt.

    Attributes:
        merges: Number of merge operations.
    """

    merges: int


@dataclass(frozen=True)
class Subword:
    """Subword units: exactly one of the two kinds, and limits on their number.

    Attributes:
        sentencepiece: A SentencePiece model.
        bpe: A subword-nmt model.
        filters: Length limits for training pairs, in subwords.
        joined_dictionary: Whether both languages share one dictionary.
    """

    sentencepiece: Optional[SentencePiece] = None
    bpe: Optional[Bpe] = None
    filters: Filters = Filters()
    joined_dictionary: bool = True


@dataclass(frozen=True)
class Preparation:
    """One way to prepare a corpus.

    Attributes:
        reproduces: Which published preparation this is, or what it is for.
        clean: Settings of the cleaning.
        tokenise: Settings of the tokenisation; None leaves raw text.
        subword: Settings of the subword model.
        expect: Published number of lines of ``text/`` by split.
    """

    reproduces: str
    subword: Subword
    clean: Clean = Clean()
    tokenise: Optional[Tokenise] = None
    expect: Dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A corpus: where it comes from, what it consists of, how it may be used and prepared.

    Attributes:
        name: The recipe's name.
        title: One line about the corpus.
        source: Code of the source language.
        target: Code of the target language.
        licence: Terms of use, and who to cite.
        tested: What was tried with the real corpus; ``untested`` if nothing was.
        default: Name of the preparation used when none is asked for.
        preparations: The ways to prepare it.
        splits: What the splits consist of.
        downloads: Public files by name.
        train: Flags for fairseq-train that fit the corpus.
        part_lines: Pairs in one part.
        unpack_limit_gb: Most gigabytes that one archive member may unpack to.
    """

    name: str
    title: str
    source: str
    target: str
    licence: str
    tested: str
    default: str
    preparations: Dict[str, Preparation]
    splits: Dict[str, Split]
    downloads: Dict[str, Download] = field(default_factory=dict)
    train: str = ""
    part_lines: int = 10_000
    unpack_limit_gb: float = 20.0

    @property
    def languages(self) -> List[str]:
        """Source and target."""
        return [self.source, self.target]


FORMATS = {"text": 2, "sgm": 2, "tsv": 1, "tmx": 1}
NORMALISATIONS = ("nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity")


def names() -> List[str]:
    """Names of the recipes that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str, overrides: Optional[Dict[str, Any]] = None) -> Recipe:
    """Read a recipe by name or path.

    Args:
        name: A name from `names`, or the path of a YAML file.
        overrides: Values to set, by dotted path, e.g. ``{"part_lines": 500}``.

    Raises:
        DataError: No such recipe, or something in it is wrong; all faults are listed.
    """
    raw = _raw(name)
    for path, value in (overrides or {}).items():
        _set(raw, path, value)
    _spread_languages(raw)
    faults: List[str] = []
    recipe = _build(Recipe, raw, "", faults)
    if not faults:
        faults = _faults(recipe)
    if faults:
        raise DataError(f"recipe {name}: " + "; ".join(faults))
    return recipe


def _raw(name: str) -> Dict[str, Any]:
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise DataError(
            f"there is no recipe {name!r}; choose one of {', '.join(names())}, "
            "or give the path of a .yaml file"
        )
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise DataError(f"{path} is not YAML: {' '.join(str(fault).split())}") from None
    if not isinstance(raw, dict):
        raise DataError(f"{path} holds no recipe: expected keys and values, got {raw!r}")
    raw.setdefault("name", path.stem)
    if "extends" in raw:
        return _merged(_raw(raw.pop("extends")), raw)
    return raw


def _merged(base: Dict[str, Any], over: Dict[str, Any]) -> Dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def _set(raw: Dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
        if not isinstance(raw, dict):
            raise DataError(f"--set {path}: {parent} is not a group of settings")
    raw[last] = value


def _spread_languages(raw: Dict[str, Any]) -> None:
    """Turn ``files: x.{lang}`` into one entry per language."""
    languages = [raw.get("source"), raw.get("target")]
    splits = raw.get("splits") or {}
    for split in splits.values() if isinstance(splits, dict) else ():
        for piece in (split or {}).get("pieces") or ():
            files = piece.get("files")
            if isinstance(files, str) and "{lang}" in files:
                piece["files"] = {code: files.replace("{lang}", code) for code in languages}
            elif isinstance(files, str):
                piece["files"] = {"both": files}


def _build(cls: Any, raw: Any, where: str, faults: List[str]) -> Any:
    """Build a dataclass from a mapping, collecting faults instead of stopping at the first."""
    if not isinstance(raw, dict):
        faults.append(f"{where or 'the file'} must be a group of settings, got {raw!r}")
        return None
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in sorted(set(raw) - set(fields), key=str):
        faults.append(f"unknown setting {where}{key}; known are {', '.join(fields)}")
    values = {
        name: _value(hints[name], raw[name], f"{where}{name}", faults)
        for name in fields
        if name in raw
    }
    missing = [
        name
        for name, f in fields.items()
        if name not in raw
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    faults.extend(f"{where}{name} is missing" for name in missing)
    return None if missing else cls(**values)


def _value(hint: Any, raw: Any, where: str, faults: List[str]) -> Any:
    """Check one value against its type hint."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        fitting = (a for a in arguments if isinstance(a, type) and type(raw) is a)
        return None if raw is None else _value(next(fitting, arguments[0]), raw, where, faults)
    if dataclasses.is_dataclass(hint):
        return _build(hint, {} if raw is None else raw, f"{where}.", faults)
    if origin is list and isinstance(raw, list):
        return [_value(arguments[0], v, f"{where}[{i}]", faults) for i, v in enumerate(raw)]
    if origin is dict and isinstance(raw, dict):
        return {str(k): _value(arguments[1], v, f"{where}.{k}", faults) for k, v in raw.items()}
    if hint is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    plain = origin is None and isinstance(raw, hint) and (hint is bool or raw is not True)
    if not plain or (hint is int and isinstance(raw, bool)):
        kind = {list: "a list", dict: "a group of settings"}.get(origin) or hint.__name__
        faults.append(f"{where} must be {kind}, got {raw!r}")
    return raw


def _faults(recipe: Recipe) -> List[str]:
    """Faults that a type cannot express."""
    faults: List[str] = []
    if recipe.source == recipe.target:
        faults.append(f"source and target are both {recipe.source!r}")
    if recipe.default not in recipe.preparations:
        known = ", ".join(recipe.preparations)
        faults.append(f"default is {recipe.default!r}, but the preparations are {known}")
    for name, preparation in recipe.preparations.items():
        kinds = preparation.subword
        if (kinds.sentencepiece is None) == (kinds.bpe is None):
            faults.append(f"preparations.{name}.subword needs one of sentencepiece and bpe")
        rule = kinds.sentencepiece and kinds.sentencepiece.normalisation
        if rule not in (None, *NORMALISATIONS):
            allowed = ", ".join(NORMALISATIONS)
            faults.append(
                f"preparations.{name}.subword.sentencepiece.normalisation is {rule!r}, allowed are "
                f"{allowed}"
            )
        limits = kinds.filters
        if (limits.max_word_chars, limits.max_chars, limits.char_ratio) != (None, None, None):
            faults.append(f"preparations.{name}.subword.filters knows limits in words only")
    for name, split in recipe.splits.items():
        if bool(split.pieces) == (split.hold_out is not None):
            faults.append(f"splits.{name} needs one of pieces and hold_out")
        if split.hold_out and "train" not in recipe.splits:
            faults.append(f"splits.{name}.hold_out needs a split train")
        for piece in split.pieces:
            faults.extend(_piece_faults(recipe, f"splits.{name}, piece {piece.name}", piece))
    return faults


def _piece_faults(recipe: Recipe, where: str, piece: Piece) -> List[str]:
    if piece.format not in (None, *FORMATS):
        return [f"{where}: format is {piece.format!r}, allowed are {', '.join(FORMATS)}"]
    together = FORMATS[piece.format] == 1 if piece.format else "both" in piece.files
    expected = ["both"] if together else recipe.languages
    if not set(expected) <= set(piece.files):
        return [f"{where}: files has {', '.join(piece.files)}, needs {', '.join(expected)}"]
    if piece.columns and not set(recipe.languages) <= set(piece.columns):
        return [f"{where}: columns has {piece.columns}, needs {', '.join(recipe.languages)}"]
    return []
