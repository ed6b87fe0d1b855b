"""Exports to stock fairseq: they decode like the branch they are, and need nothing of ours."""

import argparse
import copy
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tsa_mt.cli import main as tsa_mt_cli
from tsa_mt.export import fairseq as writer
from tsa_mt.export.checkpoint import load_checkpoint
from tsa_mt.export.companions import find_companions
from tsa_mt.export.fairseq import write_fairseq
from tsa_mt.export.leader import plain_transformer
from tsa_mt.export.source import read_source

BRANCHES = [f"{model}{branch}" for model in ("tree", "separate") for branch in range(3)]


@pytest.fixture(scope="module")
def tree_checkpoint(tree_run):
    return load_checkpoint(tree_run / "checkpoint_last.pt")


@pytest.fixture
def export(tree_run, tmp_path, capsys):
    """Exports the tree's leader from the command line; status, stdout and stderr."""

    def run(out=tmp_path / "out", *more, source=tree_run / "checkpoint_last.pt"):
        arguments = ["export", source, out, "--to", "fairseq", "--no-certificate", *more]
        status = tsa_mt_cli([*map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.mark.parametrize("name", [*BRANCHES, "averaged0", "stock0"])
def test_an_exported_branch_generates_byte_for_byte_what_the_tree_generates(exports, name):
    lines = exports.stock.lines(name, "S", "T", "H", "D", "P")
    assert len(lines) == 5 * 61
    assert lines == exports.plugin.lines(name, "S", "T", "H", "D", "P")


def test_the_branches_differ_from_each_other(exports):
    """Otherwise exporting the leader every time would pass for exporting branches."""
    for model in ("tree", "separate"):
        scores = [exports.stock.lines(f"{model}{branch}", "P") for branch in range(3)]
        assert scores[0] != scores[1] != scores[2] != scores[0]


def test_exports_are_decoded_without_the_plugin_and_without_an_allow_list(exports):
    assert not exports.stock.imported
    assert {module.split(".")[0] for module in exports.stock.allowed} <= {"torch"}
    assert exports.plugin.imported


def test_the_separate_tree_has_learned_enough_for_its_tests_to_mean_something(exports, toy):
    translations = exports.stock.text("separate0")
    pairs = zip(translations, toy.raw("test", "yy"), strict=True)
    right = sum(translation == target for translation, target in pairs)
    assert right >= 30


def test_an_export_holds_the_model_and_everything_that_belongs_to_it(exports, toy):
    folder = exports.folders["tree0"]
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "model.pt",
        "dict.xx.txt",
        "dict.yy.txt",
        "sentencepiece.bpe.model",
        "README.md",
    }
    for name in names - {"model.pt", "README.md"}:
        assert (folder / name).read_bytes() == (toy.data / name).read_bytes()
    assert "the leader of tree 1(1(1,2),1)" in (folder / "README.md").read_text()


def test_the_readme_s_python_translates_raw_text(exports, toy, readme_code):
    folder = exports.folders["separate0"]
    done = subprocess.run(
        [sys.executable, "-c", readme_code(folder, toy.raw("test", "xx")[1])],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    assert done.stdout.splitlines()[-1] == exports.stock.text("separate0")[1]


def test_the_configuration_is_a_plain_dictionary_without_traces_of_the_tree_or_its_paths(exports):
    state = torch.load(exports.folders["tree1"] / "model.pt", weights_only=True)
    assert state["args"] is None
    assert state["cfg"]["model"]["_name"] == "transformer"
    assert state["cfg"]["model"]["decoder_layers"] == 4
    assert state["cfg"]["criterion"]["_name"] == "label_smoothed_cross_entropy"
    assert state["cfg"]["criterion"]["label_smoothing"] == pytest.approx(0.1)
    text = repr({**state, "model": sorted(state["model"])})
    for trace in ("branch", "kd_", "tsa", "data-bin", "user_dir': '"):
        assert trace not in text


def test_a_leaf_with_its_own_projection_is_untied_from_the_embeddings(exports, separate_run):
    tree = load_checkpoint(separate_run / "checkpoint_last.pt")["model"]
    state = torch.load(exports.folders["separate2"] / "model.pt", weights_only=True)
    options, weights = state["cfg"]["model"], state["model"]
    assert not options["share_all_embeddings"]
    assert not options["share_decoder_input_output_embed"]
    own = tree["decoder.branches.output_projections.2.weight"]
    assert torch.equal(weights["decoder.output_projection.weight"], own)
    assert torch.equal(weights["decoder.embed_tokens.weight"], tree["encoder.embed_tokens.weight"])
    norm = tree["decoder.branches.layer_norms.2.weight"]
    assert torch.equal(weights["decoder.layer_norm.weight"], norm)


def test_a_leaf_that_shares_the_projection_stays_tied(exports):
    state = torch.load(exports.folders["tree2"] / "model.pt", weights_only=True)
    assert state["cfg"]["model"]["share_all_embeddings"]
    assert state["cfg"]["model"]["decoder_layers"] == 2
    tables = ("encoder.embed_tokens", "decoder.embed_tokens", "decoder.output_projection")
    assert len({state["model"][f"{table}.weight"].data_ptr() for table in tables}) == 1


def test_tables_that_lost_their_sharing_are_one_again_in_the_file(tree_checkpoint, toy, tmp_path):
    copied = copy.copy(tree_checkpoint)
    copied["model"] = {name: tensor.clone() for name, tensor in tree_checkpoint["model"].items()}
    torch.save(copied, tmp_path / "copied.pt")
    sizes = []
    for name, checkpoint in (("shared", tree_checkpoint), ("copied", copied)):
        companions = find_companions({}, tmp_path / "copied.pt", toy.data)
        write_fairseq(plain_transformer(checkpoint), companions, tmp_path / name)
        sizes.append((tmp_path / name / "model.pt").stat().st_size)
    assert sizes[0] == sizes[1]


def test_an_export_can_be_exported_again(exports, tmp_path):
    plain, companions = read_source(exports.folders["separate1"])
    write_fairseq(plain, companions, tmp_path / "again")
    states = [
        torch.load(folder / "model.pt", weights_only=True)
        for folder in (exports.folders["separate1"], tmp_path / "again")
    ]
    assert states[0]["cfg"] == states[1]["cfg"]
    assert all(torch.equal(w, states[1]["model"][n]) for n, w in states[0]["model"].items())


def test_a_checkpoint_with_args_instead_of_cfg_exports_the_same(stock_run, toy, tmp_path):
    """fairseq before 0.11 wrote one namespace for everything."""
    checkpoint = load_checkpoint(stock_run / "checkpoint_last.pt")
    new = plain_transformer(checkpoint)
    arguments = argparse.Namespace(**vars(checkpoint["cfg"]["model"]))
    old = plain_transformer({**checkpoint, "cfg": None, "args": arguments})
    assert (old.options, old.criterion) == (new.options, new.criterion)
    assert {**old.task, "train_subset": 0} == {**new.task, "train_subset": 0}


def test_the_copies_that_fairseq_0_12_2_saves_are_left_out(stock_run):
    checkpoint = load_checkpoint(stock_run / "checkpoint_last.pt")
    extra = {
        "encoder.layers.0.in_proj_weight": torch.zeros(96, 32),
        "encoder.layers.1.fc2_bias": torch.zeros(32),
        "encoder.embed_positions._float_tensor": torch.zeros(1),
    }
    weights = plain_transformer({**checkpoint, "model": {**checkpoint["model"], **extra}}).weights
    assert set(weights) == set(checkpoint["model"])


def test_every_file_is_printed_with_its_size_and_sha256(export, tmp_path):
    status, out, _ = export()
    assert status == 0
    digest = subprocess.run(
        ["sha256sum", tmp_path / "out" / "model.pt"], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    line = next(line for line in out.splitlines() if "model.pt" in line)
    assert digest in line
    assert f"{(tmp_path / 'out' / 'model.pt').stat().st_size:,} bytes" in line


def test_an_existing_folder_is_only_replaced_with_force(export, tmp_path):
    assert export()[0] == 0
    before = (tmp_path / "out" / "model.pt").read_bytes()
    status, _, error = export(tmp_path / "out", "--branch", 1)
    assert (status, error.count("\n")) == (1, 1)
    assert "out exists and is not empty; pass --force to replace it" in error
    assert (tmp_path / "out" / "model.pt").read_bytes() == before
    assert export(tmp_path / "out", "--branch", 1, "--force")[0] == 0
    assert (tmp_path / "out" / "model.pt").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_does_not_delete_a_folder_that_is_no_export(export, tmp_path, toy):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    status, _, error = export(tmp_path / "out", "--force")
    assert status == 1
    assert "is not an earlier export of this kind" in error
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_filled_and_a_file_is_refused(export, tmp_path):
    (tmp_path / "empty").mkdir()
    assert export(tmp_path / "empty")[0] == 0
    (tmp_path / "file").write_text("")
    assert "is a file; name a folder to write" in export(tmp_path / "file", "--force")[2]


def test_an_export_that_fails_leaves_the_earlier_one_and_nothing_else(
    export, tmp_path, monkeypatch
):
    assert export()[0] == 0
    before = (tmp_path / "out" / "model.pt").read_bytes()

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.shutil, "copyfile", disk_full)
    status, _, error = export(tmp_path / "out", "--force", "--branch", 2)
    assert status == 1
    assert "tsa-mt export: error: [Errno 28] No space left on device" in error
    assert (tmp_path / "out" / "model.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_that_is_killed_leaves_the_earlier_one_whole(export, tree_run, tmp_path):
    assert export()[0] == 0
    before = (tmp_path / "out" / "model.pt").read_bytes()
    code = (
        "import os, signal, sys, shutil\n"
        "from tsa_mt.cli import main\n"
        "shutil.copyfile = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "main(sys.argv[1:])\n"
    )
    command = ["export", tree_run / "checkpoint_last.pt", tmp_path / "out", "--to", "fairseq"]
    command.append("--no-certificate")
    path = str(Path(writer.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command), "--force", "--branch", "1"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "out" / "model.pt").read_bytes() == before
    assert len(list((tmp_path / "out").iterdir())) == 5


@pytest.mark.parametrize("branch", [3, -1])
def test_a_branch_that_does_not_exist_is_refused_with_the_leaves_that_do(export, branch):
    status, _, error = export(Path("never"), "--branch", branch)
    assert status == 1
    assert f"branch {branch} does not exist: tree 1(1(1,2),1) has the leaves 0 to 2" in error
    assert not Path("never").exists()


def test_a_stock_transformer_has_branch_0_only(export, stock_run):
    source = stock_run / "checkpoint_last.pt"
    error = export(Path("never"), "--branch", 1, source=source)[2]
    assert "a plain Transformer with a single branch, 0" in error


def test_a_leaf_takes_its_own_encoder_along_and_only_if_it_has_one(exports, separate_run):
    tree = load_checkpoint(separate_run / "checkpoint_last.pt")["model"]
    name = "layers.0.fc1.weight"
    for branch, source in ((0, "encoder"), (1, "encoder"), (2, "encoder.branches.4")):
        state = torch.load(exports.folders[f"separate{branch}"] / "model.pt", weights_only=True)
        assert torch.equal(state["model"][f"encoder.{name}"], tree[f"{source}.{name}"])
    assert not torch.equal(tree[f"encoder.{name}"], tree[f"encoder.branches.4.{name}"])


def test_all_unsupported_properties_are_listed_at_once(tree_checkpoint):
    config = copy.deepcopy(tree_checkpoint["cfg"])
    config["model"].update(_name="lstm", base_layers=2, decoder_layers_to_keep="0,2")
    config["task"]["_name"] = "language_modeling"
    with pytest.raises(ValueError) as error:
        plain_transformer({**tree_checkpoint, "cfg": config})
    for reason in (
        "architecture 'lstm' is neither a tree_transformer nor a stock transformer",
        "task 'language_modeling' is not 'translation'",
        "it has 2 BASE layers",
        "layers were pruned",
    ):
        assert reason in str(error.value)


def test_merged_embeddings_cannot_be_untied(separate_run):
    checkpoint = load_checkpoint(separate_run / "checkpoint_last.pt")
    checkpoint["cfg"]["model"]["merge_src_tgt_embed"] = True
    with pytest.raises(ValueError, match="--merge-src-tgt-embed ties the projection"):
        plain_transformer(checkpoint, 1)


def test_a_checkpoint_without_a_leaf_s_norm_is_called_incomplete(separate_run):
    checkpoint = load_checkpoint(separate_run / "checkpoint_last.pt")
    del checkpoint["model"]["decoder.branches.layer_norms.1.bias"]
    with pytest.raises(ValueError, match="'decoder.branches.layer_norms.1.bias' is missing"):
        plain_transformer(checkpoint, 1)


def test_weights_that_do_not_fit_the_stock_model_are_listed(tree_checkpoint, toy, tmp_path):
    plain = plain_transformer(tree_checkpoint)
    companions = find_companions(plain.task, tmp_path, toy.data)
    del plain.weights["decoder.layers.2.fc1.bias"]
    plain.weights["decoder.layers.9.fc1.bias"] = torch.zeros(3)
    plain.weights["encoder.layers.0.fc1.bias"] = torch.zeros(3)
    with pytest.raises(ValueError) as error:
        write_fairseq(plain, companions, tmp_path / "out")
    assert "'decoder.layers.2.fc1.bias' is missing" in str(error.value)
    assert "'decoder.layers.9.fc1.bias' is unknown to it" in str(error.value)
    assert "'encoder.layers.0.fc1.bias' has shape (3,) instead of (64,)" in str(error.value)
    assert not (tmp_path / "out").exists()
