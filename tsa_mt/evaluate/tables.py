"""Figures as tables: Markdown, LaTeX with booktabs, or CSV with one figure a line."""

import csv
import io
import statistics
from dataclasses import dataclass
from typing import Callable, List, Mapping, Optional, Sequence, Tuple

LEVEL = 0.05
"""A p-value below it counts as significant."""


@dataclass(frozen=True)
class Versus:
    """How a figure stands to the same one of another system.

    Attributes:
        difference: Mean minus the other's mean; unset where there is nothing to compare with.
        p_values: Of the paired tests, one per seed.
    """

    difference: Optional[float] = None
    p_values: Tuple[float, ...] = ()

    @property
    def significant(self) -> int:
        """How many of the paired tests found a difference."""
        return sum(p < LEVEL for p in self.p_values)


@dataclass(frozen=True)
class Figure:
    """One measured quantity of one system, for every seed.

    Attributes:
        table: Title of the table it belongs to.
        system: Name of the system.
        row: What tells the system's rows apart: checkpoint and leaf; empty for costs.
        measure: Name of the quantity.
        values: One value per seed.
        signature: What the values depend on, for scores.
        baseline: How it stands to the baseline; unset for the baseline itself.
        control: How it stands to the same tree without distillation; unset for what needs none.
    """

    table: str
    system: str
    row: Tuple[str, ...]
    measure: str
    values: Tuple[float, ...]
    signature: str = ""
    baseline: Optional[Versus] = None
    control: Optional[Versus] = None

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> Optional[float]:
        """Sample standard deviation over seeds; unset for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Table:
    """A table as it is shown.

    Attributes:
        title: Above it.
        header: Names of the columns.
        rows: Cells.
        notes: Below it.
    """

    title: str
    header: List[str]
    rows: List[List[str]]
    notes: List[str]


def tabulate(
    figures: Sequence[Figure],
    row_names: Sequence[str],
    baseline: str,
    shown: Mapping[str, Callable[[float], str]],
) -> Table:
    """Arranges the figures of one table: a row per system and row, a column per measure.

    Args:
        figures: Of one table.
        row_names: Names of what tells rows apart.
        baseline: Name of the system that others were tested against.
        shown: How a measure is written; two decimals otherwise.
    """
    measures = list(dict.fromkeys(figure.measure for figure in figures))
    columns = {measure: _compared(figures, measure) for measure in measures}
    titles = {"baseline": f"vs {baseline}", "control": "vs control"}
    header = ["system", *row_names, "seeds"]
    for measure in measures:
        header += [measure, *(titles[rival] for rival in columns[measure])]
    rows = []
    for key in dict.fromkeys((figure.system, figure.row) for figure in figures):
        cells = {f.measure: f for f in figures if (f.system, f.row) == key}
        row = [key[0], *key[1], str(max(len(figure.values) for figure in cells.values()))]
        for measure in measures:
            figure, form = cells.get(measure), shown.get(measure, "{:.2f}".format)
            row.append(_cell(figure, form))
            row += [_verdict(getattr(figure, rival, None), form) for rival in columns[measure]]
        rows.append(row)
    signatures = dict.fromkeys(f"{f.measure}: {f.signature}" for f in figures if f.signature)
    return Table(figures[0].table, header, rows, list(signatures))


def _cell(figure: Optional[Figure], shown: Callable[[float], str]) -> str:
    if figure is None:
        return ""
    spread = "" if figure.deviation is None else f" ± {shown(figure.deviation)}"
    return f"{shown(figure.mean)}{spread}"


def _compared(figures: Sequence[Figure], measure: str) -> List[str]:
    """What the figures of a measure are compared with: ``baseline``, ``control``."""
    own = [figure for figure in figures if figure.measure == measure]
    return [rival for rival in ("baseline", "control") if any(getattr(f, rival) for f in own)]


def _verdict(versus: Optional[Versus], shown: Callable[[float], str]) -> str:
    """The difference, and what paired tests say about it."""
    if versus is None:
        return ""
    if versus.difference is None:
        return "missing"
    text = shown(versus.difference)
    difference = text if text.startswith("-") else f"+{text}"
    if not versus.p_values:
        return difference
    worst = max(versus.p_values)
    if len(versus.p_values) == 1:
        return f"{difference}, p = {worst:.3f}"
    return f"{difference}, p ≤ {worst:.3f}, {versus.significant}/{len(versus.p_values)}"


def to_markdown(tables: Sequence[Table]) -> str:
    """Tables for a README."""
    return "\n".join(_markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    rows = [table.header, *([cell.replace("|", "\\|") for cell in row] for row in table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = "".join(f"\n{note}  " for note in table.notes)
    return f"### {table.title}\n\n" + "\n".join(lines) + "\n" + (f"{notes}\n" if notes else "")


def to_latex(tables: Sequence[Table]) -> str:
    """Tables for a paper; they need the package booktabs."""
    return "\n".join(_latex(table) for table in tables)


def _latex(table: Table) -> str:
    lines = [" & ".join(map(_tex, row)) + r" \\" for row in (table.header, *table.rows)]
    notes = "".join(f"% {note}\n" for note in table.notes)
    return (
        f"% {table.title}\n{notes}\\begin{{tabular}}{{{'l' * len(table.header)}}}\n\\toprule\n"
        + lines[0]
        + "\n\\midrule\n"
        + "\n".join(lines[1:])
        + "\n\\bottomrule\n\\end{tabular}\n"
    )


_TEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"±": r"$\pm$", "≤": r"$\leq$", "×": r"$\times$", "~": r"\textasciitilde{}"},
    **{"\\": r"\textbackslash{}", "^": r"\textasciicircum{}"},
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(sign, sign) for sign in text)


CSV_HEADER = (
    *("table", "system", "row", "measure", "seeds", "mean", "deviation", "difference"),
    *("p_max", "significant", "signature"),
    *("control_difference", "control_p_max", "control_significant"),
)


def to_csv(figures: Sequence[Figure]) -> str:
    """One figure a line, not rounded; what does not apply is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for f in figures:
        writer.writerow(
            [
                *(f.table, f.system, " ".join(f.row), f.measure, len(f.values), f.mean),
                *(f.deviation, *_tested(f.baseline), f.signature, *_tested(f.control)),
            ]
        )
    return text.getvalue()


def _tested(versus: Optional[Versus]) -> Tuple[Optional[float], ...]:
    """Difference, largest p-value and significant tests, as far as they are there."""
    if versus is None or not versus.p_values:
        return (None if versus is None else versus.difference, None, None)
    return (versus.difference, max(versus.p_values), versus.significant)
