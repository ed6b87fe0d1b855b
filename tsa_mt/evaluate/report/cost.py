"""Quality against cost: one scatter plot for each of compute, wall time and size of the leader."""

import math
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from tsa_mt.evaluate.report.entry import Entry
from tsa_mt.evaluate.report.markup import Html, element, join, missing
from tsa_mt.evaluate.report.scatter import Mark, scatter
from tsa_mt.evaluate.report.wording import duration_unit, prefix_for
from tsa_mt.evaluate.run_folder import ResultKey

LEADER = 0


@dataclass(frozen=True)
class Quality:
    """One figure for every run that has it.

    Attributes:
        name: What was measured, with its conditions.
        unit: Name of the axis.
        values: By run.
    """

    name: str
    unit: str
    values: Dict[str, float]


def quality(entries: Sequence[Entry]) -> Optional[Quality]:
    """BLEU on the test set that most runs share, else the best validation figure they share.

    The checkpoint is the one chosen on validation where there is one (``best``): the choice looks
    at names, never at scores.
    """
    keys = {key for entry in entries for key in entry.run.results if _bleu(entry, key) is not None}
    leaders = [key for key in keys if key.branch == LEADER]
    if leaders:
        key = min(leaders, key=lambda key: (-_holders(entries, key), _preference(key)))
        values = {entry.label: _bleu(entry, key) for entry in entries}
        found = {label: value for label, value in values.items() if value is not None}
        return Quality(f"BLEU on {key.test_set}, model '{key.model}'", "BLEU", found)
    return _validation_quality(entries)


def _preference(key: ResultKey) -> Tuple:
    order = ("best", "average", "last")
    known = next((n for n, name in enumerate(order) if key.model.startswith(name)), len(order))
    return known, key.model, key.test_set


def _holders(entries: Sequence[Entry], key: ResultKey) -> int:
    return sum(_bleu(entry, key) is not None for entry in entries)


def _bleu(entry: Entry, key: ResultKey) -> Optional[float]:
    result = entry.run.results.get(key)
    score = result.scores.get("BLEU") if result else None
    return score.score if score else None


def _validation_quality(entries: Sequence[Entry]) -> Optional[Quality]:
    found: Dict[str, Dict[str, float]] = {}
    for entry in entries:
        best = entry.record.get("best")
        if isinstance(best, dict) and _is_number(best.get("value")):
            found.setdefault(str(best.get("metric")), {})[entry.label] = best["value"]
    if not found:
        return None
    metric = max(found, key=lambda name: len(found[name]))
    return Quality(f"best {metric} on validation", metric, found[metric])


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value)


def _flops(entry: Entry) -> object:
    return entry.record.get("training_flops")


def _seconds(entry: Entry) -> object:
    return entry.record.get("seconds")


def _leader_size(entry: Entry) -> object:
    parameters = entry.record.get("parameters")
    return parameters.get("leader") if isinstance(parameters, dict) else None


def _flops_unit(largest: float) -> Tuple[float, str]:
    factor, prefix = prefix_for(largest)
    return factor, f"training compute, {prefix}FLOP"


def _seconds_unit(largest: float) -> Tuple[float, str]:
    factor, unit = duration_unit(largest)
    return factor, f"wall time of training, {unit}"


def _parameters_unit(largest: float) -> Tuple[float, str]:
    factor, prefix = prefix_for(largest)
    return factor, f"parameters of the leader{', ' + prefix if prefix else ''}"


COSTS: Tuple[Tuple[str, Callable, Callable], ...] = (
    ("training compute", _flops, _flops_unit),
    ("wall time", _seconds, _seconds_unit),
    ("size of the leader", _leader_size, _parameters_unit),
)


def cost_section(entries: Sequence[Entry]) -> Html:
    """The scatter plots, and a sentence for every cost that no run recorded."""
    if len(entries) < 2:
        return missing("One run alone has nothing to be compared with: name several.")
    measured = quality(entries)
    if measured is None:
        return missing("No run has a score or a best validation figure yet.")
    intro = element("p", f"Quality is {measured.name}.")
    absent = [entry.label for entry in entries if entry.label not in measured.values]
    note = f"Not shown, for want of {measured.name}: {', '.join(absent)}." if absent else None
    plots = [_plot(entries, measured, *cost) for cost in COSTS]
    return join(
        intro,
        element("div", plots, class_="charts"),
        missing(note) if note else None,
    )


def _plot(
    entries: Sequence[Entry], measured: Quality, name: str, cost: Callable, unit: Callable
) -> Html:
    pairs: List[Tuple[Entry, float]] = [
        (entry, cost(entry))
        for entry in entries
        if entry.label in measured.values and _is_number(cost(entry))
    ]
    if not pairs:
        return missing(f"No run has recorded its {name}.")
    factor, label = unit(max(value for _, value in pairs))
    marks = [
        Mark(entry.label, value / factor, measured.values[entry.label], entry.method)
        for entry, value in pairs
    ]
    groups = list(dict.fromkeys(entry.method for entry in entries))
    return scatter(f"Against {name}", marks, label, measured.unit, groups)
