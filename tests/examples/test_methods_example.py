"""examples/methods: what is trained, what is not trained again, the distance from the chain."""

import csv
import importlib
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "methods"


@pytest.fixture
def example(monkeypatch):
    """The example's module, without its traces in ``sys.path``."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLE), *sys.path])
    monkeypatch.delitem(sys.modules, "run", raising=False)
    yield importlib.import_module("run")
    sys.modules.pop("run", None)


@pytest.fixture
def call(example, monkeypatch, tmp_path):
    """Runs the example with trainings that end at once, and returns what was trained."""

    def run(*arguments):
        trained = []

        def measure(study, objective):
            trained.append(objective)
            bleu = 80.0 + len(objective) / 10 + study.updates / 1000
            row = {"objective": objective, "tree": example.tree_of(objective), "seconds": 1}
            row |= {"seed": study.seed, "updates": study.updates}
            return {**row, "bleu": bleu, "signature": "none"}

        monkeypatch.setattr(example, "measure", measure)
        places = ("--data", tmp_path, "--out", tmp_path / "out", "--csv", tmp_path / "table.csv")
        monkeypatch.setattr(sys, "argv", ["run.py", *map(str, (*places, *arguments))])
        return example.main(), trained

    return run


def test_flags_after_an_objective_reach_its_training_alone(example, tmp_path):
    study = example.Study(tmp_path, tmp_path / "out", 10, 100, 1)
    plain, changed = (study.training(text) for text in ("rdrop", "rdrop --kd-rdrop-weight 1"))
    assert [part for part in changed if part not in plain] == [
        "--kd-rdrop-weight",
        "1",
        tmp_path / "out" / "rdrop-kd-rdrop-weight-1",
    ]
    assert "--kd-teacher" not in changed
    assert "--kd-teacher" in study.training("kd --kd-weight 0.3")


def test_the_table_names_the_tree_that_was_trained(example):
    assert example.tree_of("okddip") == "1(1,1,1,1)"
    assert example.tree_of("okddip --tree 0(2,2,2) --kd-detach yes") == "0(2,2,2)"


def test_a_row_is_trained_once_for_its_seed_and_updates(call, tmp_path):
    control = "independent --tree '0(1(1,1),1(1,1))'"
    first = ["independent", control, "tsa"]
    assert call("--updates", 10, "tsa") == (0, first)
    assert call("--updates", 10, "tsa", "rdrop") == (0, ["rdrop"])
    assert call("--updates", 20, "tsa") == (0, first)
    assert call("--updates", 20, "--seed", 2, "tsa") == (0, first)
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert len(rows) == 10
    assert {row["minus_chain"] for row in rows if row["objective"] == "independent"} == {"0.0"}
    assert {row["minus_chain"] for row in rows if row["objective"] == "rdrop"} == {"-0.6"}


def test_every_method_on_a_tree_has_its_distance_from_the_control(call, tmp_path):
    call("tsa", "rdrop")
    rows = {row["objective"]: row for row in csv.DictReader((tmp_path / "table.csv").open())}
    control = rows.pop("independent --tree '0(1(1,1),1(1,1))'")
    distance = float(rows["tsa"]["bleu"]) - float(control["bleu"])
    assert float(rows["tsa"]["minus_control"]) == pytest.approx(distance)
    assert {rows[name]["minus_control"] for name in ("independent", "rdrop")} == {""}


def test_a_name_that_does_not_exist_is_told_before_anything_is_trained(call, capsys):
    assert call("tsa", "rdorp --kd-rdrop-weight 1") == (1, [])
    assert "run.py: error: unknown objective 'rdorp'" in capsys.readouterr().err
