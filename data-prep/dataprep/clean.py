"""Normalising lines and leaving out training pairs, part by part; every rule is counted.

Validation and test sets are normalised but never filtered, and their targets, which one scores
against, are left as they are unless they are tokenised later.
"""

from hashlib import blake2b
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from dataprep.errors import DataError
from dataprep.files import read_json, read_lines, whole, write_json, write_lines
from dataprep.filters import Rule, length_rules, sieve
from dataprep.recipe import Clean
from tsa_mt.characters import decode_references, tidy

Normaliser = Callable[[str], str]


def normalisers(settings: Clean, language: str, training: bool) -> List[Normaliser]:
    """The functions that a line of one language goes through, in order.

    `tsa-mt translate` does the same to raw text where it can: references and what nobody sees.
    """
    chain: List[Normaliser] = []
    if settings.evaluation_characters and not training:
        table = str.maketrans(settings.evaluation_characters)
        chain.append(lambda line: line.translate(table))
    if training or not settings.training_only:
        chain.extend(_rewriters(settings, language))
    return chain if chain and chain[-1] is tidy else [*chain, _one_space]


def _one_space(line: str) -> str:
    return " ".join(line.split())


def _rewriters(settings: Clean, language: str) -> List[Normaliser]:
    chain: List[Normaliser] = []
    if settings.characters.get(language):
        table = str.maketrans(settings.characters[language])
        chain.append(lambda line: line.translate(table))
    if settings.unescape:
        chain.append(decode_references)
    if settings.punctuation:
        chain.append(_punctuation(language))
    if settings.control_characters:
        chain.append(tidy)
    return chain


def _punctuation(language: str) -> Normaliser:
    """Moses' punctuation rules, the quirks of the perl script that sacremoses lacks included."""
    from sacremoses import MosesPunctNormalizer

    moses = MosesPunctNormalizer(language, perl_parity=True)
    if language not in ("en", "cs", "cz", "de", "es", "fr"):
        # perl has these rules for every language but English and Czech
        moses.substitutions.extend(moses.DE_ES_FR_QUOTATION_FOLLOWED_BY_COMMA)
    # perl sees the line's end, which makes one of its rules apply to a final full stop and quote
    return lambda line: moses.normalize(f"{line}\n")


def normalise(lines: List[str], chain: List[Normaliser]) -> List[str]:
    """Apply the functions to every line."""
    for function in chain:
        lines = list(map(function, lines))
    return lines


def rules(settings: Clean, languages: List[str]) -> List[Tuple[str, Rule]]:
    """The rules for training pairs."""
    found: List[Tuple[str, Rule]] = []
    if settings.empty:
        found.append(("empty", lambda s, t: not s or not t))
    if settings.identical:
        found.append(("identical", lambda s, t: s == t))
    found.extend(length_rules(settings.filters))
    if settings.languages:
        found.append(("languages", _other_language(languages)))
    return found


def _other_language(languages: List[str]) -> Rule:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise DataError(
            "the recipe asks for language identification, which needs the package py3langid; "
            "install it, or set clean.languages to false"
        ) from None
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    source, target = languages

    def other(one: str, two: str) -> bool:
        return identifier.classify(one)[0] != source or identifier.classify(two)[0] != target

    return other


def hashes(sources: List[str], targets: List[str]) -> np.ndarray:
    """64-bit fingerprints of pairs; two of 40 million pairs collide with probability 4e-5."""
    joined = (
        blake2b(f"{source}\n{target}".encode(), digest_size=8).digest()
        for source, target in zip(sources, targets, strict=True)
    )
    return np.frombuffer(b"".join(joined), dtype=np.uint64)


def clean_part(
    inputs: Path,
    folder: Path,
    name: str,
    settings: Clean,
    languages: List[str],
    training: bool,
    raw_targets: bool = False,
) -> Dict[str, Any]:
    """Normalise, and if it is training text filter, one part.

    Args:
        inputs: Folder of the part.
        folder: Where the cleaned part goes.
        name: Name of the part.
        settings: What is done.
        languages: Source and target.
        training: Whether it is training text.
        raw_targets: Whether targets are left as they are.

    Returns:
        ``in``, ``out`` and ``dropped`` (counts by rule).
    """
    done = folder / f"{name}.json"
    if (record := read_json(done)) is not None:
        return record
    raw = [read_lines(inputs / f"{name}.{code}") for code in languages]
    chains = [normalisers(settings, code, training) for code in languages]
    if raw_targets:
        chains[1] = []
    sides = [normalise(lines, chain) for lines, chain in zip(raw, chains, strict=True)]
    dropped: Dict[str, int] = {}
    if training:
        sources, targets, dropped = sieve(*sides, rules(settings, languages))
        sides = [sources, targets]
        if settings.duplicates:
            with whole(folder / f"{name}.hashes") as path:
                hashes(sources, targets).tofile(path)
    for code, lines in zip(languages, sides, strict=True):
        write_lines(folder / f"{name}.{code}", lines)
    record = {"in": len(raw[0]), "out": len(sides[0]), "dropped": dict(dropped)}
    write_json(done, record)
    return record
