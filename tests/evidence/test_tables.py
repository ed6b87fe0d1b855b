"""benchmarks/evidence: tables from records."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "evidence"
MODULES = ("corpus", "runs", "training", "pooled", "summary", "tables")
HERE = {"commit": "abc1234", "cpu": "a CPU", "torch": "2.13.0", "threads": "1"}
COMPARED = "### pooled\n\n| system |\n\n### val\n\n| hidden |\n\n### training cost\n\n| hours |\n"


@pytest.fixture
def tables(monkeypatch):
    """The module, without its traces in ``sys``."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("tables")
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def records(tmp_path):
    """Records of plain (two seeds) and ours (one seed here, one of another commit)."""
    conditions = {"plain-s1": {}, "plain-s2": {}, "ours-s1": {}, "ours-s2": {"commit": "old"}}
    for name, changes in conditions.items():
        folder = tmp_path / "records" / name
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps({**HERE, **changes}))
    return tmp_path / "records"


def test_records_of_another_commit_are_in_no_table_of_this_one_and_are_said_to_be_left_out(
    tables, records, tmp_path, monkeypatch
):
    seen = []

    def compare(runs, baseline, folder):
        seen.append([run.rpartition("/")[2] for run in runs])
        return COMPARED

    monkeypatch.setattr(tables, "compare", compare)
    monkeypatch.setattr(tables, "summary", lambda *_: "| brief |\n")
    table = {"title": "a table", "baseline": "plain", "systems": ["plain", "ours"]}
    ((heading, text),) = tables.build(table, records, tmp_path)
    assert seen == [["plain-s1", "plain-s2", "ours-s1"]]
    assert heading.endswith("Left out, of other conditions: 1 of 4 records.")
    assert heading.startswith("Commit abc1234, a CPU, torch 2.13.0, 1 thread.")
    assert tables.short(text) == (
        "| brief |\n\n#### pooled\n\n| system |\n\n\n#### training cost\n\n| hours |\n"
    )


def test_a_system_alone_makes_no_table(tables, records, tmp_path):
    table = {"title": "a table", "baseline": "plain", "systems": ["plain"]}
    assert list(tables.build(table, records, tmp_path)) == []


def test_what_compare_refuses_is_passed_on(tables, records, tmp_path):
    with pytest.raises(RuntimeError, match=r"has no run.json; give a run's folder"):
        tables.compare([f"plain={records / 'plain-s1'}"], "plain", tmp_path)


def test_tables_go_between_the_marks_and_the_rest_of_the_page_stays(tables, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    tables.refresh(page, "new\n")
    assert page.read_text() == f"before\n{tables.BEGIN}\n\nnew\n\n{tables.END}\nafter\n"
    page.write_text("no marks\n")
    with pytest.raises(ValueError, match="lacks the marks <!-- evidence -->"):
        tables.refresh(page, "new\n")


def test_without_the_data_nothing_is_touched_and_that_is_said(tables, tmp_path, capsys):
    assert tables.main(["--data", str(tmp_path / "none"), "--pages", str(tmp_path)]) == 0
    assert "skipped: no references without the data" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_tables_name_systems_that_the_list_of_runs_has(tables):
    content = yaml.safe_load((FOLDER / "runs.yaml").read_text(encoding="utf-8"))
    systems = {name for block in content["blocks"] for name in block["systems"]}
    for page, entries in content["pages"].items():
        text = (FOLDER.parents[1] / "docs" / "results" / f"{page}.md").read_text(encoding="utf-8")
        assert tables.BEGIN in text
        for table in entries:
            assert {table["baseline"], *table["systems"]} <= systems
