"""What the page says first: sentences computed from the runs, and one line a run."""

from typing import List, Sequence, Tuple

from tsa_mt.evaluate.report.certificates import read_certificates
from tsa_mt.evaluate.report.cost import Quality, quality
from tsa_mt.evaluate.report.diversity import answer
from tsa_mt.evaluate.report.entry import Entry
from tsa_mt.evaluate.report.markup import Html, element, table
from tsa_mt.evaluate.report.wording import (
    NOT_RECORDED,
    duration,
    memory,
    number,
    plural,
    scaled,
)

LOWER_IS_BETTER = ("loss", "nll", "ppl", "ter")


def glance(entries: Sequence[Entry]) -> Html:
    """A short list of sentences."""
    sentences = [
        _status(entries),
        *_ranking(entries),
        *_diversity(entries),
        *_certified(entries),
    ]
    return element("ul", [element("li", sentence) for sentence in sentences], class_="glance")


def _status(entries: Sequence[Entry]) -> str:
    states = [str(entry.record.get("status", "unknown")) for entry in entries]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    methods = len({entry.method for entry in entries})
    return f"{plural(len(entries), 'run')} of {plural(methods, 'method')}: {counted}."


def _ranking(entries: Sequence[Entry]) -> List[Html]:
    measured = quality(entries)
    if measured is None or len(measured.values) < 2:
        return []
    lower = lower_is_better(measured)
    order = sorted(measured.values, key=measured.values.__getitem__, reverse=not lower)
    best, last = order[0], order[-1]
    return [
        element(
            "span",
            f"{measured.name}: best is ",
            element("b", best),
            f" with {measured.values[best]:.2f}, last is {last} with {measured.values[last]:.2f}. "
            f"These are single runs, between which a difference may be chance: see the comparison "
            f"over seeds.",
        )
    ]


def lower_is_better(measured: Quality) -> bool:
    """Whether the axis is a loss."""
    return measured.unit.lower().startswith(LOWER_IS_BETTER)


def _diversity(entries: Sequence[Entry]) -> List[Html]:
    trees = [entry for entry in entries if entry.leaves > 1]
    return [
        element("span", element("b", entry.label), ": are the leaves homogenising? ", answer(entry))
        for entry in trees[:6]
    ]


def _certified(entries: Sequence[Entry]) -> List[str]:
    found = [
        certificate for entry in entries for _, certificate in read_certificates(entry.run.path)[0]
    ]
    if not found:
        return []
    passed = sum(certificate.get("passed") is True for certificate in found)
    return [f"{plural(len(found), 'export')} with a certificate, {passed:,} passed."]


def runs_table(entries: Sequence[Entry]) -> Html:
    """One line a run: what it is, how good, at what cost."""
    measured = quality(entries)
    heading = measured.name if measured else "quality"
    speed = "tokens per s" if all(e.is_translation for e in entries) else "tokens or images per s"
    header = ["run", "method and tree", "status", "seed", heading, "updates", "wall time"]
    header += [speed, "peak memory", "training compute", "leader's parameters"]
    rows = [[_link(entry), *_cells(entry, measured)] for entry in entries]
    return table(header, rows, "Every run, its quality and its costs", words=2)


def _link(entry: Entry) -> Html:
    return element("a", entry.label, href=f"#{entry.anchor}")


def _cells(entry: Entry, measured: Quality | None) -> Tuple[str, ...]:
    record = entry.record
    value = measured.values.get(entry.label) if measured else None
    parameters = record.get("parameters")
    leader = parameters.get("leader") if isinstance(parameters, dict) else None
    return (
        f"{entry.objective} {entry.tree}".strip(),
        str(record.get("status", NOT_RECORDED)),
        str(record.get("seed", NOT_RECORDED)),
        number(value) if value is not None else "none yet",
        number(record.get("updates")),
        duration(record.get("seconds")),
        number(record.get("tokens_per_second"), 0),
        memory(record.get("peak_memory_bytes")),
        scaled(record.get("training_flops"), "FLOP"),
        scaled(leader, ""),
    )
