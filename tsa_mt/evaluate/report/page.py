"""The whole page: sections of all runs, then one section a run, under one style sheet."""

from datetime import datetime, timezone
from typing import List, Sequence, Tuple

from tsa_mt.evaluate.report.certificates import certificates_section
from tsa_mt.evaluate.report.comparison import Group, comparison_section
from tsa_mt.evaluate.report.conditions import conditions_section
from tsa_mt.evaluate.report.cost import cost_section
from tsa_mt.evaluate.report.curves import curves_section, leaders_section
from tsa_mt.evaluate.report.diversity import diversity_section
from tsa_mt.evaluate.report.drawing import draw_tree
from tsa_mt.evaluate.report.entry import Entry, number_entries
from tsa_mt.evaluate.report.markup import Html, element, join
from tsa_mt.evaluate.report.overview import glance, runs_table
from tsa_mt.evaluate.report.samples import (
    samples_of_leaders,
    samples_of_run,
    samples_section,
)
from tsa_mt.evaluate.report.style import CSS
from tsa_mt.evaluate.report.wording import plural
from tsa_mt.version import __version__

GENERATOR = "tsa-mt report"
OPEN_RUNS = 4
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def build_page(group: Group, samples: int = 0) -> str:
    """The page as text.

    Args:
        group: At least one run.
        samples: Test sets that the paired bootstrap draws; 0 = no tests.
    """
    entries = number_entries(group)
    comparison = comparison_section(group, samples)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content=f"{GENERATOR} {__version__}"),
        element("title", _title(entries)),
        element("style", Html(CSS)),
    )
    sections = [*_common_sections(entries, comparison), _run_sections(entries)]
    body = element("body", _header(entries), element("main", sections), _footer())
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _title(entries: Sequence[Entry]) -> str:
    if len(entries) == 1:
        return f"Report: {entries[0].label}"
    return f"Report on {plural(len(entries), 'run')}"


def _header(entries: Sequence[Entry]) -> Html:
    several = len(entries) > 1
    links = [("#runs", "All runs"), *([("#curves", "Leaders")] if several else [])]
    links += [("#cost", "Quality and cost"), ("#comparison", "Comparison")]
    links += [("#samples", "Translations")] if several else []
    links += [(f"#{entry.anchor}", entry.label) for entry in entries]
    items = [element("li", element("a", label, href=target)) for target, label in links]
    return element(
        "header",
        element("h1", _title(entries)),
        glance(entries),
        element("nav", element("ul", items), aria_label="Sections"),
    )


def _common_sections(entries: Sequence[Entry], comparison: Html) -> List[Html]:
    sections = [
        _section("runs", "All runs", runs_table(entries)),
        _section("cost", "Quality against cost", cost_section(entries)),
        _section("comparison", "Comparison over seeds", comparison),
    ]
    if len(entries) > 1:
        content = samples_section(samples_of_leaders(entries))
        sections.insert(1, _section("curves", "Leaders", leaders_section(entries)))
        sections.append(_section("samples", "Translations of the leaders", content))
    return sections


def _section(anchor: str, title: str, *content: object) -> Html:
    return element("section", element("h2", title), content, id=anchor)


def _run_sections(entries: Sequence[Entry]) -> List[Html]:
    """Folded when there are many, so that the page stays short."""
    return [_run_section(entry, len(entries) <= OPEN_RUNS) for entry in entries]


def _run_section(entry: Entry, is_open: bool) -> Html:
    parts: List[Tuple[str, Html]] = [
        ("Tree", draw_tree(entry.tree, _leaf_notes(entry))),
        ("Diversity", diversity_section(entry)),
        ("Curves", curves_section(entry)),
        ("Translations", samples_section(samples_of_run(entry))),
        ("Certificates", certificates_section(entry.run.path)),
        ("Conditions", conditions_section(entry)),
    ]
    content = [join(element("h3", title), part) for title, part in parts]
    record = entry.record
    remark = f"{entry.objective}, seed {record.get('seed')}, {record.get('status')}"
    summary = element(
        "summary", element("h2", entry.label), element("span", remark, class_="remark")
    )
    return element(
        "section", element("details", summary, content, open=is_open), id=entry.anchor, class_="run"
    )


def _leaf_notes(entry: Entry) -> dict:
    """The last validation loss of every leaf."""
    notes = {}
    for leaf in range(entry.leaves):
        points = entry.points(entry.valid, f"nll_b{leaf}")
        if points:
            notes[leaf] = f"nll {points[-1][1]:.3f}"
    return notes


def _footer() -> Html:
    written = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return element(
        "footer",
        f"Written {written} by tsa-mt report {__version__} from run.json, curves.csv, "
        f"results/ and certificate.json of each run. nll, loss and divergence are in bits.",
    )
