"""Tables of runs: means over seeds, what must not be averaged, tests, costs, formats."""

import csv
import io
import json
import math
import statistics

import pytest
import sacrebleu

from tsa_mt.cli import main as tsa_mt_cli
from tsa_mt.evaluate.run_folder import ResultKey, read_run
from tsa_mt.evaluate.score import references_digest
from tsa_mt.evaluate.systems import read_systems

BEST = ResultKey("best", 0, "test_a")


@pytest.fixture(scope="module")
def work(write_run, tmp_path_factory):
    """Two plain runs, two of TSA that are better, both with two seeds."""
    folder = tmp_path_factory.mktemp("work")
    for seed in (1, 2):
        write_run(folder / f"plain-{seed}", "independent", seed, errors=0.3)
        write_run(folder / f"tsa-{seed}", "tsa", seed, errors=0.1, branches=(-1,))
    return folder


@pytest.fixture
def compare(capsys):
    """Runs the command: its exit status, what it printed, and what it complained about."""

    def function(*arguments):
        status = tsa_mt_cli(["compare", *map(str, arguments)])
        return (status, *capsys.readouterr())

    return function


def every(work):
    return [work / name for name in ("plain-1", "plain-2", "tsa-1", "tsa-2")]


def figures(text):
    """The lines of a CSV by table, system, row and measure."""
    found = {}
    for line in csv.DictReader(io.StringIO(text)):
        found[line["table"], line["system"], line["row"], line["measure"]] = line
    return found


def test_scores_are_means_over_seeds_with_their_deviation(work, compare):
    status, text, _ = compare(*every(work), "--format", "csv", "--samples", "0")
    assert status == 0
    line = figures(text)["test_a", "tsa", "best leader", "BLEU"]
    own = [read_run(work / f"tsa-{seed}").results[BEST].scores["BLEU"] for seed in (1, 2)]
    assert float(line["mean"]) == pytest.approx(statistics.fmean(s.score for s in own))
    assert float(line["deviation"]) == pytest.approx(statistics.stdev(s.score for s in own))
    assert (line["seeds"], line["signature"]) == ("2", own[0].signature)
    plain = figures(text)["test_a", "plain", "best leader", "BLEU"]
    assert float(line["difference"]) == pytest.approx(float(line["mean"]) - float(plain["mean"]))
    assert line["p_max"] == plain["difference"] == ""


def test_paired_tests_are_sacrebleu_s_own_seed_by_seed(work, compare):
    _, text, _ = compare(*every(work), "--format", "csv", "--samples", "200")
    line = figures(text)["test_a", "tsa", "best leader", "BLEU"]
    expected = []
    for seed in (1, 2):
        systems = [
            (name, read_run(work / f"{name}-{seed}").results[BEST].translations().hypotheses)
            for name in ("plain", "tsa")
        ]
        reference = (work / "raw" / "test_a.de").read_text().splitlines()
        test = sacrebleu.significance.PairedTest(
            systems, {"BLEU": sacrebleu.BLEU()}, [reference], "bs", 200
        )
        expected.append(test()[1]["BLEU"][1].p_value)
    assert float(line["p_max"]) == pytest.approx(max(expected))
    assert line["significant"] == str(sum(p < 0.05 for p in expected))
    plain = figures(text)["test_a", "plain", "best leader", "BLEU"]
    difference = float(line["mean"]) - float(plain["mean"])
    assert float(line["difference"]) == pytest.approx(difference) and difference > 0
    assert plain["p_max"] == ""


def test_the_markdown_table_shows_systems_checkpoints_leaves_and_verdicts(work, compare):
    _, text, _ = compare(*every(work), "--samples", "100", "--baseline", work / "plain-2")
    table = text.partition("### test_a")[2].partition("###")[0]
    assert "| system | checkpoint | leaf     | seeds | BLEU" in table
    assert "vs plain" in table and "p ≤ 0.010, 2/2" in table
    assert "BLEU: nrefs:1|case:mixed|eff:no|tok:13a" in table
    assert "Paired bootstrap against plain, 100 samples" in table
    rows = [line.split("|")[1:5] for line in table.splitlines() if line.startswith("| tsa")]
    found = [[cell.strip() for cell in row] for row in rows]
    assert ["tsa", "last", "ensemble", "2"] in found and ["tsa", "best", "leader", "2"] in found


def test_costs_are_shown_beside_the_baseline_s(work, compare):
    _, text, _ = compare(*every(work), "--format", "csv", "--samples", "0")
    found = figures(text)
    cost = {line[3]: found[line] for line in found if line[:2] == ("training cost", "tsa")}
    assert float(cost["FLOPs vs baseline"]["mean"]) == 2.5
    assert float(cost["leader parameters"]["mean"]) == 3_200_000
    assert float(cost["hours"]["mean"]) == pytest.approx((600 * 2.2 + 1.5) / 3600)
    assert float(cost["tokens/s"]["mean"]) == pytest.approx(4000 / 2.2)
    assert float(cost["peak GiB"]["mean"]) == 4


def test_the_last_and_the_best_validation_are_taken_from_the_curves(work, compare):
    _, text, _ = compare(work / "tsa-1", "--format", "csv", "--samples", "0")
    curve = {p.update: p.value for p in read_run(work / "tsa-1").series("valid", "nll_loss")}
    found = figures(text)
    for checkpoint, update in (("best", 800), ("last", 1000)):
        line = found["valid, while training", "tsa", checkpoint, "nll_loss"]
        assert float(line["mean"]) == curve[update]


def test_image_classifiers_are_compared_by_accuracy(write_run, tmp_path, compare):
    for seed in (1, 2):
        folder = write_run(
            tmp_path / f"cifar-{seed}", seed=seed, task="image_classification", sets=()
        )
        with open(folder / "curves.csv", "a") as file:
            file.write(f"800,4,test,accuracy,{70 + seed}\n1000,5,test,accuracy,{71 + seed}\n")
            file.write(f"1000,5,test,accuracy_ensemble,{75 + seed}\n")
    _, text, _ = compare(tmp_path / "cifar-1", tmp_path / "cifar-2")
    table = text.partition("### test, while training")[2].partition("###")[0]
    lines = [line.split("|")[1:-1] for line in table.splitlines() if "|" in line]
    rows = [[cell.strip() for cell in line] for line in lines]
    assert rows[2:] == [
        ["tsa", "best", "2", "71.50 ± 0.71", "missing", "", ""],
        ["tsa", "last", "2", "72.50 ± 0.71", "missing", "76.50 ± 0.71", "missing"],
    ]


# --- the control --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def controlled(write_run, tmp_path_factory):
    """Plain, the control on TSA's tree, and TSA; one seed, every leaf of the trees translated."""
    folder = tmp_path_factory.mktemp("controlled")
    write_run(folder / "tsa", "tsa", errors=0.1, branches=(-1,))
    write_run(folder / "plain", "independent", errors=0.3)
    write_run(folder / "control", "tsa", seed=1, errors=0.2, branches=(-1,))
    edited(folder / "control", method__objective="independent", method__options={})
    return folder


def test_a_method_is_compared_with_plain_and_with_its_control(controlled, compare):
    names = [controlled / name for name in ("tsa", "plain", "control")]
    _, text, error = compare(*names, "--format", "csv", "--samples", "50")
    found = figures(text)
    tsa, plain, control = (
        found["test_a", name, "best leader", "BLEU"] for name in ("tsa", "plain", "independent")
    )
    assert float(tsa["difference"]) == pytest.approx(float(tsa["mean"]) - float(plain["mean"]))
    own = float(tsa["mean"]) - float(control["mean"])
    assert float(tsa["control_difference"]) == pytest.approx(own)
    assert 0 <= float(tsa["control_p_max"]) <= 1
    assert control["control_difference"] == plain["control_difference"] == ""
    assert float(control["difference"]) > 0  # the first in the list is not the baseline
    assert "no control" not in error


def test_a_method_s_ensemble_is_compared_with_the_control_s_ensemble(controlled, compare):
    names = [controlled / name for name in ("plain", "control", "tsa")]
    _, text, _ = compare(*names, "--format", "csv", "--samples", "0")
    found = figures(text)
    mean = {
        name: float(found["test_a", name, "best ensemble", "BLEU"]["mean"])
        for name in ("tsa", "independent")
    }
    tsa = found["test_a", "tsa", "best ensemble", "BLEU"]
    assert float(tsa["control_difference"]) == pytest.approx(mean["tsa"] - mean["independent"])


def test_the_validation_table_has_both_differences(controlled, compare):
    names = [controlled / name for name in ("plain", "control", "tsa")]
    _, text, _ = compare(*names, "--samples", "0")
    table = text.partition("### valid, while training")[2].partition("###")[0]
    header = [cell.strip() for cell in table.strip().splitlines()[0].strip("|").split("|")]
    assert header[3:] == ["nll_loss", "vs plain", "vs control"]
    assert "The control is the same tree with the task loss alone" in table


def test_a_missing_control_is_told_in_the_table_and_beside_it(controlled, compare):
    _, text, error = compare(controlled / "plain", controlled / "tsa", "--samples", "0")
    assert "| missing " in text
    message = (
        "tsa has no control: give a run of --kd-objective independent on tree '2(1(1,1),1(1,1))'"
    )
    assert message in error


def test_a_control_of_another_tree_or_other_data_is_none(controlled, tmp_path, write_run, compare):
    for entry in ({"method__tree": "2(1,1)"}, {"data__sha256": "cd" * 32}):
        other = write_run(tmp_path / str(len(entry)), "tsa", sets=())
        edited(other, method__objective="independent", method__options={}, **entry)
        assert "tsa has no control" in compare(other, controlled / "tsa", "--samples", "0")[2]


# --- names --------------------------------------------------------------------------------------


def named(folder, **entries):
    """What a run is called after its record was changed."""
    edited(folder, **entries)
    (system,) = read_systems([str(folder)])
    return system.name


def test_a_run_is_named_after_what_was_trained(write_run, tmp_path):
    run = write_run(tmp_path / "run", "tsa", sets=())
    assert named(run) == "tsa"
    options = {"rdrop_weight": 1.0, "share": 0.3}
    assert named(run, method__options=options) == "tsa + rdrop"
    assert named(run, method__leaves=1) == "tsa + rdrop"
    assert named(run, method__options={}) == "plain"
    options = {"simcut_weight": 3.0, "word_dropout": 0.1}
    assert named(run, method__options=options) == "tsa + simcut + word dropout"
    assert (
        named(run, method__objective="simcut", method__options={"simcut_weight": 3.0}) == "simcut"
    )
    named(run, method__objective="tsa", method__options={})
    for objective in ("rdrop", "kd"):
        assert named(run, method__objective=objective) == objective
    stock = named(run, method__leaves=4, method__criterion="cross_entropy")
    assert stock == "tree_transformer_multi30k under cross_entropy"


def test_the_objectives_that_teach_a_single_leaf_are_known():
    from tsa_mt.evaluate.systems import TEACH_ONE_LEAF
    from tsa_mt.objectives import OBJECTIVES

    found = {name for name, cls in OBJECTIVES.items() if cls.needs_teacher}
    assert found | {"mean_teacher", "rdrop", "simcut"} == set(TEACH_ONE_LEAF)


# --- what is one system -------------------------------------------------------------------------


def edited(folder, **entries):
    """Changes entries of a record: ``section__key`` for those within another."""
    path = folder / "run.json"
    record = json.loads(path.read_text())
    for name, value in entries.items():
        *sections, key = name.split("__")
        place = record
        for section in sections:
            place = place[section]
        place[key] = value
    path.write_text(json.dumps(record))


def with_option(folder, name, value):
    record = json.loads((folder / "run.json").read_text())
    edited(folder, options={**record["options"], name: value})


@pytest.fixture
def pair(write_run, tmp_path):
    """Two runs that differ in the seed alone."""
    runs = [write_run(tmp_path / f"tsa-{seed}", seed=seed, sets=()) for seed in (1, 2)]
    return [str(run) for run in runs]


def test_runs_with_other_options_are_rows_of_their_own_and_say_so(pair, tmp_path):
    with_option(tmp_path / "tsa-2", "optimization.lr", [0.001])
    systems = read_systems(pair)
    assert [system.name for system in systems] == ["tsa (lr [0.003])", "tsa (lr [0.001])"]


def test_where_files_lie_and_what_is_printed_does_not_matter(pair, tmp_path):
    with_option(tmp_path / "tsa-2", "checkpoint.save_dir", "elsewhere")
    with_option(tmp_path / "tsa-2", "common.log_interval", 7)
    with_option(tmp_path / "tsa-2", "task.seed", 2)
    (system,) = read_systems(pair)
    assert system.seeds == [1, 2]


def test_runs_of_one_name_that_differ_in_an_option_are_not_averaged(pair, tmp_path):
    with_option(tmp_path / "tsa-2", "optimization.lr", [0.001])
    message = (
        r"'mine' is no mean over seeds: .*tsa-1 and .*tsa-2 differ in more than the seed:\n"
        r"  optimization.lr: \[0.003\], \[0.001\]\nleave some out, .* --ignore optimization.lr"
    )
    with pytest.raises(ValueError, match=message):
        read_systems([f"mine={path}" for path in pair])
    (system,) = read_systems([f"mine={path}" for path in pair], ["optimization.lr"])
    assert system.name == "mine"


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("data__sha256", "cd" * 32, "data.sha256: abab.*, cdcd"),
        ("commit", "0ddba11+", "commit: 959db04, 0ddba11"),
        ("versions__torch", "2.6.0", "versions.torch: 2.13.0, 2.6.0"),
        ("hardware__device", "cuda", "hardware.device: cpu, cuda"),
    ],
)
def test_runs_on_other_data_code_or_machines_are_not_averaged(entry, value, said, pair, tmp_path):
    edited(tmp_path / "tsa-2", **{entry: value})
    with pytest.raises(ValueError, match=f"differ in more than the seed:\n  {said}"):
        read_systems(pair)
    (system,) = read_systems(pair, [entry.split("__")[0]])
    assert len(system.runs) == 2


def test_the_same_training_twice_is_refused(pair, tmp_path):
    edited(tmp_path / "tsa-2", seed=1)
    with pytest.raises(ValueError, match="tsa-1 and .*tsa-2 are the same training twice: seed 1"):
        read_systems(pair)


def test_a_name_that_others_have_already_is_refused(pair, write_run, tmp_path):
    other = write_run(tmp_path / "x", "dml", sets=())
    with pytest.raises(ValueError, match="the name 'tsa' is that of other runs, too"):
        read_systems([*pair, f"tsa={other}"])


# --- what does not compare ----------------------------------------------------------------------


@pytest.mark.parametrize("known", ["the file", "its digest"])
def test_scores_against_references_of_another_content_are_refused(
    known, write_run, tmp_path, compare
):
    write_run(tmp_path / "plain-1", "independent", 1, sets=("test_a",))
    write_run(tmp_path / "tsa-1", "tsa", 1, sets=("test_a",))
    lines = (tmp_path / "raw" / "test_a.de").read_text().lower().splitlines()
    (tmp_path / "lower.de").write_text("".join(f"{line}\r\n" for line in lines))
    named = {"references": [str(tmp_path / "lower.de")]}
    if known == "its digest":
        named = {"references": ["gone.de"], "references_sha256": references_digest([lines])}
    for path in (tmp_path / "tsa-1" / "results").glob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), **named}))
    status, _, said = compare(tmp_path / "plain-1", tmp_path / "tsa-1", "--samples", "0")
    assert status == 1
    assert "test_a was scored against different references" in said
    assert "raw/test_a.de" in said and named["references"][0] in said


def test_the_same_references_in_another_place_compare(write_run, tmp_path, compare):
    for name, objective in (("plain-1", "independent"), ("tsa-1", "tsa")):
        write_run(tmp_path / name / name, objective, 1, sets=("test_a",))
    runs = [tmp_path / name / name for name in ("plain-1", "tsa-1")]
    assert compare(*runs, "--samples", "0")[0] == 0


def test_scores_with_different_signatures_are_refused(write_run, tmp_path, compare):
    folders = [write_run(tmp_path / f"tsa-{seed}", seed=seed) for seed in (1, 2)]
    path = folders[1] / "results" / "last.test_b.json"
    path.write_text(path.read_text().replace("tok:13a", "tok:intl"))
    status, _, error = compare(*folders)
    assert status == 1
    assert "BLEU on test_b was not scored alike, so it does not compare" in error
    assert "tsa-2 (last, leader): nrefs:1|case:mixed|eff:no|tok:intl" in error


def test_references_that_are_gone_are_named(write_run, tmp_path, compare):
    folders = [write_run(tmp_path / f"tsa-{seed}", seed=seed) for seed in (1, 2)]
    edited(folders[1], method__objective="dml")
    (tmp_path / "raw" / "test_a.de").unlink()
    status, _, error = compare(*folders, "--samples", "10")
    assert status == 1
    assert "test_a.de, which" in error and "leave the paired tests out: --samples 0" in error
    assert compare(*folders, "--samples", "0")[0] == 0


def test_a_baseline_that_is_not_compared_is_refused(work, compare):
    status, _, error = compare(work / "tsa-1", "--baseline", "plain")
    assert status == 1
    assert "--baseline plain is none of the runs that are compared; " in error
    assert "or a name: 'tsa'" in error


def test_an_unfinished_run_is_warned_about(pair, tmp_path, compare):
    edited(tmp_path / "tsa-2", status="running", updates=700)
    _, _, error = compare(*pair)
    assert "tsa-2 is not finished: running at update 700" in error


# --- formats ------------------------------------------------------------------------------------


def test_latex_escapes_and_names_its_signatures(work, compare):
    _, text, _ = compare(f"a_b={work / 'plain-1'}", f"tsa={work / 'tsa-1'}", "--format", "latex")
    assert text.count(r"\begin{tabular}") == text.count(r"\bottomrule") == 4
    assert r"a\_b & best & leader & 1 & " in text
    assert "% BLEU: nrefs:1|case:mixed" in text
    assert r"$\times$" in text and "p = " in text


def test_tables_are_written_to_a_file(work, compare, tmp_path):
    out = tmp_path / "tables" / "all.csv"
    status, text, _ = compare(work / "tsa-1", "--format", "csv", "--samples", "0", "--out", out)
    assert (status, text) == (0, "")
    lines = list(csv.DictReader(io.StringIO(out.read_text())))
    assert all(math.isfinite(float(line["mean"])) for line in lines) and len(lines) > 10
