"""Why a training pair is left out: length rules that several steps share."""

from collections import Counter
from typing import Callable, List, Optional, Tuple

from dataprep.recipe import Filters
from tsa_mt.characters import HAN_LETTERS, count_words, letters

Rule = Callable[[str, str], bool]


def _ratio(one: int, two: int) -> float:
    return max(one, two) / max(1, min(one, two))


def _char_ratio(one: str, two: str, limit: float) -> float:
    """The ratio in letters, or an upper bound of it that does not exceed the limit."""
    bound = HAN_LETTERS * _ratio(len(one), len(two))
    return bound if bound <= limit else _ratio(letters(one), letters(two))


def _longest_word(line: str) -> int:
    return max(map(len, line.split()), default=0)


def length_rules(filters: Filters) -> List[Tuple[str, Rule]]:
    """The active rules, each a name and a function that says whether a pair breaks it."""
    f = filters
    rules: List[Tuple[str, Optional[float], Rule]] = [
        ("min_words", f.min_words, lambda s, t: min(_words(s), _words(t)) < f.min_words),
        ("max_words", f.max_words, lambda s, t: max(_words(s), _words(t)) > f.max_words),
        ("word_ratio", f.word_ratio, lambda s, t: _ratio(_words(s), _words(t)) > f.word_ratio),
        (
            "max_word_chars",
            f.max_word_chars,
            lambda s, t: max(_longest_word(s), _longest_word(t)) > f.max_word_chars,
        ),
        ("max_chars", f.max_chars, lambda s, t: max(len(s), len(t)) > f.max_chars),
        ("char_ratio", f.char_ratio, lambda s, t: _char_ratio(s, t, f.char_ratio) > f.char_ratio),
    ]
    return [(name, rule) for name, limit, rule in rules if limit is not None]


def _words(line: str) -> int:
    return len(line.split()) if line.isascii() else count_words(line)


def sieve(
    sources: List[str], targets: List[str], rules: List[Tuple[str, Rule]]
) -> Tuple[List[str], List[str], Counter]:
    """Leave out the pairs that break a rule; the first broken rule is the one counted."""
    kept: Tuple[List[str], List[str]] = ([], [])
    dropped: Counter = Counter()
    for source, target in zip(sources, targets, strict=True):
        for name, broken in rules:
            if broken(source, target):
                dropped[name] += 1
                break
        else:
            kept[0].append(source)
            kept[1].append(target)
    return kept[0], kept[1], dropped
