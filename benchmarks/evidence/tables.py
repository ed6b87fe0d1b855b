"""Every table of the evidence from the committed records, without training: ``make evidence``.

    python benchmarks/evidence/tables.py --data DATA

`tsa-mt compare` makes the tables that ``runs.yaml`` names under ``pages``: systems, means over
seeds, differences from the baseline and from the control with paired bootstraps, costs. Runs of
different commits, CPUs or versions of torch are never in one table. A page of docs/results gets the
pooled scores and the costs between its marks (`BEGIN`, `END`), docs/results/evidence/ all test
sets. Without the data there are no references and nothing can be tested: every page stays as it is.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import yaml
from corpus import DECODED, LANGUAGES, TEST_SETS, raw_lines
from runs import LIST, RECORD
from summary import summary
from training import POOLED

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGES = ROOT / "docs" / "results"
BEGIN, END = "<!-- evidence -->", "<!-- end of evidence -->"
SHOWN = (POOLED, "training cost")
CONDITIONS = ("commit", "cpu", "torch", "threads")


class Entry(NamedTuple):
    """A record as a table sees it.

    Attributes:
        system: Name of the row.
        path: The record's folder.
        conditions: What it was trained under.
    """

    system: str
    path: Path
    conditions: Tuple[str, ...]


def entries(records: Path, systems: Sequence[str]) -> List[Entry]:
    """The records of some systems, in the order of the systems and their seeds."""
    found = []
    for system in systems:
        for path in sorted(records.glob(f"{system}-s[0-9]*/{RECORD}")):
            facts = json.loads(path.read_text(encoding="utf-8"))
            conditions = tuple(str(facts[name]) for name in CONDITIONS)
            found.append(Entry(system, path.parent, conditions))
    return found


def by_conditions(found: Sequence[Entry], baseline: str) -> Dict[Tuple[str, ...], List[Entry]]:
    """Records grouped by what they were trained under, as far as a group has a comparison in it."""
    groups: Dict[Tuple[str, ...], List[Entry]] = {}
    for entry in found:
        groups.setdefault(entry.conditions, []).append(entry)
    return {
        conditions: group
        for conditions, group in groups.items()
        if len({entry.system for entry in group}) > 1
        and any(entry.system == baseline for entry in group)
    }


def compare(runs: Sequence[str], baseline: str, folder: Path) -> str:
    """What ``tsa-mt compare`` prints.

    Args:
        runs: ``NAME=FOLDER`` for each record.
        baseline: One of the names.
        folder: Where the references lie, in ``references/``.

    Raises:
        RuntimeError: It refused; the message is its own.
    """
    command = [sys.executable, "-m", "tsa_mt.cli", "compare", *runs, "--baseline", baseline]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def write_references(data: Path, folder: Path) -> None:
    """Lays the raw references out under the names that the records' scores have for them."""
    code = LANGUAGES[1]
    texts = {name: raw_lines(data, name, code) for name in DECODED}
    texts[POOLED] = [line for name in TEST_SETS for line in texts[name]]
    (folder / "references").mkdir()
    for name, lines in texts.items():
        path = folder / "references" / f"{name}.{code}"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def build(table: Dict[str, object], records: Path, folder: Path) -> Iterator[Tuple[str, str]]:
    """Pairs of a heading and Markdown tables, one pair for each set of conditions."""
    found = entries(records, table["systems"])
    groups = by_conditions(found, table["baseline"])
    for conditions, group in groups.items():
        commit, cpu, torch, threads = conditions
        left_out = len(found) - len(group)
        others = (
            f" Left out, of other conditions: {left_out} of {len(found)} records."
            if left_out
            else ""
        )
        heading = f"Commit {commit}, {cpu}, torch {torch}, {threads} thread.{others}"
        runs = [f"{entry.system}={entry.path}" for entry in group]
        brief = summary(runs, table["baseline"], folder)
        yield heading, f"{brief}\n{compare(runs, table['baseline'], folder)}"


def sections(text: str) -> Iterator[Tuple[str, str]]:
    """Title and text of every table that ``tsa-mt compare`` prints."""
    for part in text.split("### ")[1:]:
        title, _, rest = part.partition("\n")
        yield title.strip(), rest.strip() + "\n"


def short(text: str) -> str:
    """What a page shows: the summary, and the tables of `SHOWN`."""
    brief = text.partition("### ")[0].strip()
    chosen = [f"#### {title}\n\n{rest}" for title, rest in sections(text) if title in SHOWN]
    return "\n\n".join([brief, *chosen])


def refresh(page: Path, content: str) -> None:
    """Puts the tables between the marks of a page.

    Raises:
        ValueError: It has no marks.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the marks {BEGIN} and {END} that the tables go between")
    page.write_text(f"{before}{BEGIN}\n\n{content}\n{END}{after}", encoding="utf-8")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Rebuilds every table; problems become one sentence and exit status 1."""
    args = parser().parse_args(argv)
    if not args.data.is_dir():
        print(f"tables.py: skipped: no references without the data; {args.data} is not there")
        return 0
    try:
        content = yaml.safe_load(args.runs.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            write_references(args.data, Path(folder))
            for name, tables in content["pages"].items():
                rebuild(args.pages, name, tables, args.records.resolve(), Path(folder))
    except (RuntimeError, ValueError, OSError) as error:
        print(f"tables.py: error: {error}", file=sys.stderr)
        return 1
    return 0


def rebuild(
    pages: Path, name: str, tables: Sequence[Dict[str, object]], records: Path, folder: Path
) -> None:
    """Rebuilds one page and the file with all its test sets."""
    brief, full = [], [f"# {name}: every test set\n\nWritten by `make evidence`.\n"]
    for table in tables:
        for heading, text in build(table, records, folder):
            head = f"## {table['title']}\n\n{heading}\n\n"
            brief.append(f"#{head}{short(text)}")
            full.append(f"{head}{text}")
    (pages / "evidence").mkdir(exist_ok=True)
    (pages / "evidence" / f"{name}.md").write_text("\n".join(full), encoding="utf-8")
    refresh(pages / f"{name}.md", "\n".join(brief) or "No run is recorded yet.\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    new = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("TSA_MT_DATA", ROOT.parent / "shared" / "data")
    new.add_argument(
        "--data",
        type=Path,
        default=Path(data),
        metavar="DIR",
        help="folder of the public corpora (default: TSA_MT_DATA, or %(default)s)",
    )
    new.add_argument(
        "--records",
        type=Path,
        default=HERE / "records",
        metavar="DIR",
        help="the records (default: %(default)s)",
    )
    new.add_argument(
        "--runs",
        type=Path,
        default=LIST,
        metavar="FILE",
        help="the list of runs, which names the tables",
    )
    new.add_argument("--pages", type=Path, default=PAGES, metavar="DIR", help="docs/results")
    return new


if __name__ == "__main__":
    sys.exit(main())
