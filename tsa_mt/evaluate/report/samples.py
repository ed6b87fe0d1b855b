"""Sample translations side by side, with the words marked in which they differ."""

from collections import Counter
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Dict, List, Sequence, Tuple

from tsa_mt.evaluate.report.entry import Entry
from tsa_mt.evaluate.report.markup import Html, element, join, missing
from tsa_mt.evaluate.report.wording import percent
from tsa_mt.evaluate.run_folder import Result, ResultKey

SHOWN = 4
LONGEST = 600
LEAVES = (
    "The other leaves have not translated it: decode leaf K with --model-overrides "
    "\"{'decode_branch': K}\", all leaves together with K = -1."
)


@dataclass
class Samples:
    """Translations of one test set by several systems.

    Attributes:
        title: Which test set and model.
        systems: Name -> translations; the first is what the others are compared with.
        sources: Source sentences; empty if the logs have none.
        targets: References as the dictionary knows them; empty if the logs have none.
        problems: A sentence about each log that cannot be used.
        alone: What to say if there is one system only.
    """

    title: str = ""
    systems: Dict[str, List[str]] = field(default_factory=dict)
    sources: List[str] = field(default_factory=list)
    targets: List[str] = field(default_factory=list)
    problems: List[str] = field(default_factory=list)
    alone: str = ""

    def add(self, name: str, result: Result) -> None:
        """Reads a log; one that is damaged or of another length becomes a problem."""
        try:
            log = result.translations()
        except (FileNotFoundError, ValueError) as error:
            self.problems.append(f"{name}: {error}.")
            return
        first = next(iter(self.systems.values()), log.hypotheses)
        if len(first) != len(log.hypotheses):
            self.problems.append(
                f"{name}: {len(log.hypotheses):,} translations cannot be set beside "
                f"{len(first):,}: its log is of another test set."
            )
            return
        self.systems[name] = log.hypotheses
        self.sources, self.targets = self.sources or log.sources, self.targets or log.targets


def samples_of_run(entry: Entry) -> Samples:
    """Leader, leaves and ensemble on the test set that most of them have translated."""
    groups: Dict[Tuple[str, str], List[ResultKey]] = {}
    for key, result in entry.run.results.items():
        if result.log is not None:
            groups.setdefault((key.model, key.test_set), []).append(key)
    if not groups:
        return Samples()
    (model, test_set), keys = min(
        groups.items(), key=lambda item: (-len(item[1]), item[0][0] != "best", item[0])
    )
    samples = Samples(f"{test_set}, model '{model}'", alone=LEAVES if entry.leaves > 1 else "")
    for key in sorted(keys, key=_order):
        samples.add(key.leaf, entry.run.results[key])
    return samples


def _order(key: ResultKey) -> Tuple[bool, int]:
    """Leader, leaves, ensemble."""
    return key.branch < 0, key.branch


def samples_of_leaders(entries: Sequence[Entry]) -> Samples:
    """The leaders of several runs on the test set that most runs have translated."""
    counts: Counter = Counter(
        (key.model, key.test_set)
        for entry in entries
        for key, result in entry.run.results.items()
        if result.log is not None and key.branch == 0
    )
    if not counts:
        return Samples()
    model, test_set = min(counts, key=lambda pair: (-counts[pair], pair[0] != "best", pair))
    samples = Samples(f"{test_set}, model '{model}'")
    for entry in entries:
        result = entry.run.results.get(ResultKey(model, 0, test_set))
        if result is not None and result.log is not None:
            samples.add(entry.label, result)
    return samples


def samples_section(samples: Samples) -> Html:
    """Sentences that differ most and sentences picked at equal distances, all systems each."""
    problems = [missing(sentence) for sentence in samples.problems]
    if not samples.systems:
        return join(
            missing("There is no log of translations in results/, so there is nothing to show."),
            problems,
        )
    different = _differences(samples)
    most, typical = _choose(different)
    return join(
        element("p", _summary(samples, different)),
        _block("Where they differ most", samples, most) if most else None,
        _block("At equal distances through the test set", samples, typical),
        problems,
    )


def _differences(samples: Samples) -> List[float]:
    """For every sentence the share of words that the systems do not have in common."""
    first, *others = samples.systems.values()
    return [
        sum(_distance(sentence, other[number]) for other in others) / max(1, len(others))
        for number, sentence in enumerate(first)
    ]


def _distance(left: str, right: str) -> float:
    if left == right:
        return 0.0
    ours, theirs = Counter(pieces(left)), Counter(pieces(right))
    apart = sum(((ours - theirs) + (theirs - ours)).values())
    return (apart or 1) / max(1, sum(ours.values()) + sum(theirs.values()))


def _choose(different: List[float]) -> Tuple[List[int], List[int]]:
    """Numbers of the sentences to show: the most different, then some at equal distances."""
    order = sorted(range(len(different)), key=lambda number: (-different[number], number))
    most = [number for number in order[:SHOWN] if different[number] > 0]
    count = min(SHOWN, len(different))
    typical = [number * len(different) // count for number in range(count)]
    return most, [number for number in typical if number not in most]


def _summary(samples: Samples, different: List[float]) -> str:
    names = list(samples.systems)
    if len(names) == 1:
        return f"{samples.title}, translated by {names[0]}. {samples.alone}".strip()
    same = sum(distance == 0 for distance in different)
    share = percent(100 * same / max(1, len(different)))
    return (
        f"{samples.title}: {len(different):,} sentences, of which {same:,} ({share}) read the same "
        f"from all {len(names)}. Marked: words that '{names[0]}' does not have; struck out: words "
        f"that only '{names[0]}' has."
    )


def _block(title: str, samples: Samples, numbers: List[int]) -> Html:
    return join(
        element("h4", title) if numbers else None,
        [_sentence(samples, number) for number in numbers],
    )


def _sentence(samples: Samples, number: int) -> Html:
    """One sentence as a card: source, reference, then every system."""
    (first, leading), *others = ((n, lines[number]) for n, lines in samples.systems.items())
    rows = [
        _row("source", _cut(samples.sources[number]), "given") if samples.sources else None,
        _row("reference", _cut(samples.targets[number]), "given") if samples.targets else None,
        _row(first, _cut(leading), "strong"),
        [_row(name, mark_differences(_cut(leading), _cut(text))) for name, text in others],
    ]
    return element(
        "article",
        element("p", f"sentence {number + 1:,}", class_="hint"),
        element("dl", rows, class_="sample"),
        class_="card",
    )


def _row(name: str, content: object, style: str = "") -> Html:
    return element(
        "div",
        element("dt", name),
        element("dd", content, dir="auto"),
        class_=style or None,
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} […]"


def pieces(text: str) -> List[str]:
    """Words; characters where a language writes without spaces."""
    words = text.split()
    return words if len(words) > 1 or len(text) < 20 else list(text)


def mark_differences(base: str, text: str) -> Html:
    """``text`` with ``<mark>`` around what ``base`` lacks and ``<del>`` around what it lost."""
    ours, theirs = pieces(base), pieces(text)
    if len(ours) <= 1 or len(theirs) <= 1:
        ours, theirs = base.split(), text.split()
    gap = " " if " ".join(theirs) == " ".join(text.split()) else ""
    parts: List[object] = []
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    for kind, i0, i1, j0, j1 in matcher.get_opcodes():
        if kind == "delete":
            parts.append(element("del", gap.join(ours[i0:i1])))
        elif kind == "equal":
            parts.append(gap.join(theirs[j0:j1]))
        else:
            parts.append(element("mark", gap.join(theirs[j0:j1])))
        parts.append(gap)
    return join(parts[:-1]) if parts else Html("")
