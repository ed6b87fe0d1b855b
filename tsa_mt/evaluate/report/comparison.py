"""The tables of ``tsa-mt compare`` on the page, and which runs are one system."""

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence

from tsa_mt.evaluate.compare import (
    SHOWN,
    cost_figures,
    curve_figures,
    find_baseline,
    notes_about,
    score_figures,
    warnings_about,
)
from tsa_mt.evaluate.report.markup import Html, element, join, missing, table
from tsa_mt.evaluate.run_folder import Run, read_run
from tsa_mt.evaluate.systems import System, read_systems
from tsa_mt.evaluate.tables import Figure, Table, tabulate


@dataclass(frozen=True)
class Group:
    """The runs of a page.

    Attributes:
        runs: In the order in which they were named.
        systems: The runs that differ in nothing but the seed, together; empty if they cannot be
            put together.
        problem: Why they cannot.
    """

    runs: List[Run]
    systems: List[System]
    problem: str = ""

    def system_of(self, run: Run) -> Optional[str]:
        """Name of the system that a run belongs to."""
        return next((s.name for s in self.systems if any(r is run for r in s.runs)), None)


def read_group(folders: Sequence[str]) -> Group:
    """Reads the runs, and puts those together that differ in their seed only.

    Raises:
        FileNotFoundError: A folder is not that of a run.
        ValueError: A record is damaged.
    """
    for folder in folders:
        if not Path(folder).is_dir():
            read_run(folder)  # says what is wrong
    try:
        systems = read_systems(folders)
    except (KeyError, TypeError, ValueError) as error:
        return Group([read_run(folder) for folder in folders], [], _sentence(error))
    order = [Path(folder) for folder in folders]
    runs = [run for system in systems for run in system.runs]
    return Group(sorted(runs, key=lambda run: order.index(run.path)), systems)


def _sentence(error: Exception) -> str:
    if isinstance(error, (KeyError, TypeError)):
        return f"a record lacks what a comparison needs: {error}"
    return " ".join(str(error).split())


def comparison_section(group: Group, samples: int) -> Html:
    """All tables of the comparison, or why there are none."""
    if not group.systems:
        return missing(f"The runs cannot be put together into systems: {group.problem}.")
    try:
        figures = _figures(group.systems, samples)
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        return missing(f"There is no comparison: {_sentence(error)}.")
    titles = dict.fromkeys(figure.table for figure in figures)
    baseline = find_baseline(group.systems, None).name
    tables = [_table([f for f in figures if f.table == title], baseline) for title in titles]
    notes = [f"{note}." for note in _notes(group.systems, figures, baseline, samples)]
    return join([_show(found) for found in tables], [missing(note) for note in notes])


def _notes(
    systems: Sequence[System], figures: Sequence[Figure], baseline: str, samples: int
) -> List[str]:
    """What the tables' differences mean, and which controls are missing."""
    untested = (
        "No difference was tested for significance: tsa-mt compare does, and so does this page "
        "with --samples 1000"
    )
    found = notes_about(figures, baseline, samples) + ([] if samples else [untested])
    return found + [line for line in warnings_about(systems, ()) if "has no control" in line]


def _figures(systems: Sequence[System], samples: int) -> List[Figure]:
    baseline = find_baseline(systems, None)
    return [
        *score_figures(systems, baseline, samples),
        *curve_figures(systems, baseline),
        *cost_figures(systems, baseline),
    ]


def _table(figures: List[Figure], baseline: str) -> Table:
    names = ("checkpoint", "leaf")[: len(figures[0].row)]
    return tabulate(figures, names, baseline, SHOWN)


def _show(found: Table) -> Html:
    words = found.header.index("seeds") - 1
    notes = [element("p", note, class_="hint") for note in found.notes]
    return join(table(found.header, found.rows, found.title, words), notes)
