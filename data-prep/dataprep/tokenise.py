"""Moses tokenisation by sacremoses, with one rule of the perl script that it lacks.

tokenizer.perl always parts the last word of a line from its full stop; sacremoses keeps them
together after initials and known abbreviations ("in the U.S."). On the 13,500 lines of IWSLT14's
test set that rule is the only difference (31 lines); `tests/data_prep` measures it.
"""

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from dataprep.files import read_json, read_lines, write_json, write_lines
from dataprep.filters import length_rules, sieve
from dataprep.recipe import Tokenise


def part_final_stop(line: str) -> str:
    """Part the last word from its full stop, as tokenizer.perl does."""
    if not line.endswith(".") or line.endswith((" .", "..")) or len(line) == 1:
        return line
    return line[:-1] + " ."


def tokeniser(settings: Tokenise, language: str) -> Callable[[str], str]:
    """The function from a raw line to a tokenised one."""
    from sacremoses import MosesTokenizer

    moses = MosesTokenizer(lang=language)

    def tokenise(line: str) -> str:
        line = moses.tokenize(
            line, aggressive_dash_splits=settings.aggressive_hyphens, return_str=True
        )
        line = part_final_stop(line)
        return line.lower() if settings.lowercase else line

    return tokenise


def read_kept(inputs: Path, name: str, code: str, masks: Optional[Path]) -> List[str]:
    """Read a part without the pairs that were marked as duplicates."""
    lines = read_lines(inputs / f"{name}.{code}")
    mask = None if masks is None else masks / f"{name}.keep"
    if mask is None or not mask.exists():
        return lines
    keep = np.fromfile(mask, dtype=bool)
    return [line for line, kept in zip(lines, keep, strict=True) if kept]


def tokenise_part(
    inputs: Path,
    masks: Optional[Path],
    folder: Path,
    name: str,
    settings: Tokenise,
    languages: List[str],
    training: bool,
) -> Dict[str, Any]:
    """Tokenise one part, and if it is training text leave out pairs by length.

    Returns:
        ``in``, ``out`` and ``dropped`` (counts by rule).
    """
    done = folder / f"{name}.json"
    if (record := read_json(done)) is not None:
        return record
    raw = [read_kept(inputs, name, code, masks) for code in languages]
    sides = [
        list(map(tokeniser(settings, code), lines))
        for code, lines in zip(languages, raw, strict=True)
    ]
    dropped: Dict[str, int] = {}
    rules = length_rules(settings.filters)
    if training and rules:
        # Moses' clean-corpus-n.perl, whose rules these are, also strips a final space
        sides = [[line.strip() for line in lines] for lines in sides]
        sources, targets, dropped = sieve(*sides, rules)
        sides = [sources, targets]
    for code, lines in zip(languages, sides, strict=True):
        write_lines(folder / f"{name}.{code}", lines)
    record = {"in": len(raw[0]), "out": len(sides[0]), "dropped": dict(dropped)}
    write_json(done, record)
    return record
