"""Under which conditions a run's figures hold: seed, commit, data, hardware, versions, options."""

from typing import Any, List, Tuple

from tsa_mt.evaluate.report.entry import Entry
from tsa_mt.evaluate.report.markup import Html, element, join, missing
from tsa_mt.evaluate.report.wording import NOT_RECORDED, duration, memory, number, scaled


def conditions_section(entry: Entry) -> Html:
    """A list of the conditions, and all options behind a fold."""
    rows = [
        element("div", element("dt", name), element("dd", value)) for name, value in _facts(entry)
    ]
    return join(element("dl", rows, class_="facts"), _options(entry))


def _facts(entry: Entry) -> List[Tuple[str, str]]:
    record = entry.record
    method, data = entry.method_record, record.get("data")
    parameters, best = record.get("parameters"), record.get("best")
    return [
        ("status", _shown(record.get("status"))),
        ("task and architecture", f"{_shown(record.get('task'))}, {_shown(record.get('arch'))}"),
        ("objective", _shown(method.get("objective"))),
        ("options of the objective", _flat(method.get("options"))),
        ("seed", _shown(record.get("seed"))),
        ("updates", f"{number(record.get('updates'))} in {number(record.get('epochs'))} epochs"),
        ("best checkpoint", _best(best)),
        ("wall time", duration(record.get("seconds"))),
        ("starts", str(len(record.get("sessions") or [])) or NOT_RECORDED),
        ("speed", _speed(entry)),
        ("training compute", scaled(record.get("training_flops"), "FLOP")),
        ("peak memory", memory(record.get("peak_memory_bytes"))),
        ("parameters, training", _parameters(parameters, "training")),
        ("parameters, leader", _parameters(parameters, "leader")),
        ("data", _flat(data)),
        ("commit", _shown(record.get("commit"))),
        ("hardware", _flat(record.get("hardware"))),
        ("versions", _flat(record.get("versions"))),
    ]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return NOT_RECORDED if value is None or value == "" else str(value)


def _flat(value: Any) -> str:
    """A mapping as ``name value, name value``."""
    if not isinstance(value, dict):
        return _shown(value)
    return ", ".join(f"{name} {_flat(entry)}" for name, entry in value.items()) or "none"


def _best(best: Any) -> str:
    if not isinstance(best, dict):
        return NOT_RECORDED
    return (
        f"{_shown(best.get('checkpoint'))}: {_shown(best.get('metric'))} "
        f"{number(best.get('value'), 3)} at update {number(best.get('update'))}"
    )


def _speed(entry: Entry) -> str:
    value = entry.record.get("tokens_per_second")
    what = "tokens" if entry.is_translation else "images"
    return f"{number(value, 0)} {what} per second" if value is not None else NOT_RECORDED


def _parameters(parameters: Any, name: str) -> str:
    return number(parameters.get(name)) if isinstance(parameters, dict) else NOT_RECORDED


def _options(entry: Entry) -> Html:
    options = entry.record.get("options")
    if not isinstance(options, dict) or not options:
        return missing("The record holds no options.")
    rows = [
        element("div", element("dt", name), element("dd", _shown(value)))
        for name, value in sorted(options.items())
    ]
    return element(
        "details",
        element("summary", f"All {len(options):,} options"),
        element("dl", rows, class_="facts options"),
    )
