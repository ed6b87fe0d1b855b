"""safetensors, TorchScript and Hugging Face: the same translations as fairseq's, from folders."""

import json
import subprocess
import sys

import pytest
import torch

from tsa_mt.cli import main as tsa_mt_cli
from tsa_mt.export import huggingface, torchscript
from tsa_mt.export.companions import Companions
from tsa_mt.export.fairseq import stock_model
from tsa_mt.export.huggingface import write_huggingface
from tsa_mt.export.safetensors import read_safetensors, write_safetensors
from tsa_mt.export.source import read_source
from tsa_mt.export.torchscript import write_torchscript
from tsa_mt.translate import load_translator

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.load.* is deprecated")
WRITERS = {"safetensors": write_safetensors, "torchscript": write_torchscript}


@pytest.fixture(scope="module")
def pieces(toy):
    """The test set as subword pieces."""
    return [line.split() for line in toy.raw("pieces.test", "xx")]


@pytest.mark.parametrize("to", WRITERS)
@pytest.mark.parametrize("model", ["tree0", "separate2", "stock0"])
def test_a_folder_translates_like_the_branch_it_was_made_from(
    to, model, exports, pieces, tmp_path, run_readme
):
    folder = WRITERS[to](*read_source(exports.folders[model]), tmp_path / "out")
    found = load_translator(folder).translate_tokens(pieces)
    expected = [tuple(text.split()) for text in exports.stock.values(model, "H")]
    same = [best[0].tokens == tokens for best, tokens in zip(found, expected, strict=True)]
    assert sum(same) >= 60  # a near tie may fall the other way in another batch
    assert run_readme(folder, 2) == exports.stock.text(model)[2]


def test_what_safetensors_holds_is_the_model_and_can_be_exported_again(exports, tmp_path):
    plain, companions = read_source(exports.folders["separate1"])
    folder = write_safetensors(plain, companions, tmp_path / "one")
    again, _ = read_source(folder)
    assert set(again.weights) == set(plain.weights)
    assert all(torch.equal(again.weights[n], tensor) for n, tensor in plain.weights.items())
    assert (again.options, again.updates, again.branch) == (plain.options, plain.updates, 0)
    write_safetensors(again, read_source(folder)[1], tmp_path / "two")
    for name in ("model.safetensors", "config.json", "dict.xx.txt", "sentencepiece.bpe.model"):
        assert (tmp_path / "two" / name).read_bytes() == (folder / name).read_bytes()


def test_safetensors_stores_a_shared_table_once(exports, tmp_path):
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
    folder = write_safetensors(*read_source(exports.folders["tree0"]), tmp_path / "out")
    with safetensors.safe_open(folder / "model.safetensors", framework="pt") as file:
        stored = set(file.keys())
    shared = json.loads((folder / "config.json").read_text())["shared"]
    tables = {f"{side}.embed_tokens.weight" for side in ("encoder", "decoder")}
    tables.add("decoder.output_projection.weight")
    assert len(stored & tables) == 1
    assert set(shared) == tables - stored
    assert set(shared.values()) == stored & tables


def test_safetensors_tells_nothing_about_where_it_was_made(exports, toy, tmp_path):
    write_safetensors(*read_source(exports.folders["tree0"]), tmp_path / "out")
    config = (tmp_path / "out" / "config.json").read_text()
    assert str(toy.folder) not in config
    assert '"data": "."' in config


def test_another_tool_s_folder_is_not_taken_for_ours(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="holds no model of tsa-mt: its config.json does not say"):
        read_safetensors(tmp_path)


def test_an_export_in_safetensors_has_a_single_branch(exports, tmp_path):
    folder = write_safetensors(*read_source(exports.folders["tree0"]), tmp_path / "out")
    with pytest.raises(ValueError, match="branch 1 does not exist: .* holds a single branch, 0"):
        read_source(folder, branch=1)


def test_safetensors_that_is_not_installed_is_named(exports, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ValueError, match=r"pip install 'tsa-mt\[deploy\]'"):
        write_safetensors(*read_source(exports.folders["tree0"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_program_needs_pytorch_alone(exports, tmp_path, toy, readme_code):
    folder = write_torchscript(*read_source(exports.folders["separate0"]), tmp_path / "out")
    code = readme_code(folder, toy.raw("test", "xx")[0])
    code += "import sys; print(sorted({'fairseq', 'tsa_mt'} & set(sys.modules)))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout.splitlines() == [exports.stock.text("separate0")[0], "[]"]


def test_a_program_takes_beam_number_and_penalty(exports, pieces, tmp_path):
    folder = write_torchscript(*read_source(exports.folders["tree0"]), tmp_path / "out")
    program = torch.jit.load(folder / "model.ts")
    batch = [*pieces[:3], []]
    found = program(batch, 4, 2, 0.5)
    expected = load_translator(exports.folders["tree0"], beam=4, lenpen=0.5)
    for row, best in zip(found, expected.translate_tokens(batch[:3], n_best=2), strict=False):
        assert [tuple(tokens) for _, tokens in row] == [each.tokens for each in best]
        assert [value for value, _ in row] == pytest.approx([each.score for each in best], abs=1e-4)
    assert [len(row) for row in found] == [2, 2, 2, 2]
    assert program([]) == []


def test_a_program_says_which_lengths_it_has(exports, tmp_path):
    folder = write_torchscript(*read_source(exports.folders["tree0"]), tmp_path / "out")
    with pytest.raises(ValueError, match="translates into 1 to 200 pieces, not 1 to 50"):
        load_translator(folder, max_length=50)


def test_what_torchscript_cannot_express_is_told(exports, tmp_path, monkeypatch):
    def fails(module):
        raise RuntimeError("\nUnknown builtin op: aten::magic.\nmore lines")

    monkeypatch.setattr(torchscript.torch.jit, "script", fails)
    with pytest.raises(ValueError, match="cannot express this model: Unknown builtin op: aten::m"):
        write_torchscript(*read_source(exports.folders["tree0"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["safetensors", "torchscript", "huggingface"])
def test_the_command_writes_the_format(to, tree_run, tmp_path, capsys):
    arguments = ["export", str(tree_run / "checkpoint_last.pt"), str(tmp_path / "out"), "--to", to]
    assert tsa_mt_cli([*arguments, "--no-certificate"]) == 0
    assert "the leader of tree 1(1(1,2),1), 200 updates" in capsys.readouterr().out
    assert "sha256" in (tmp_path / "out" / "README.md").read_text()
    assert tsa_mt_cli([*arguments, "--no-certificate"]) == 1
    assert "pass --force to replace it" in capsys.readouterr().err
    assert tsa_mt_cli([*arguments, "--no-certificate", "--force"]) == 0


# --- Hugging Face -------------------------------------------------------------------------------

LAYOUTS = {"tree0": (True, True), "tree2": (True, True), "stock0": (False, False)}


@pytest.mark.parametrize("model", LAYOUTS)
def test_a_marian_folder_stores_every_table_once_and_says_which_are_shared(
    model, exports, tmp_path
):
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
    folder = write_huggingface(*read_source(exports.folders[model]), tmp_path / "out")
    with safetensors.safe_open(folder / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    config = json.loads((folder / "config.json").read_text())
    found = (config["share_encoder_decoder_embeddings"], config["tie_word_embeddings"])
    assert found == LAYOUTS[model]
    assert ("model.shared.weight" in names) is LAYOUTS[model][0]
    assert ("lm_head.weight" in names) is not LAYOUTS[model][1]
    assert (config["decoder_start_token_id"], config["pad_token_id"]) == (2, 1)
    assert {path.name for path in folder.iterdir()} == {
        *("model.safetensors", "config.json", "generation_config.json", "tokenizer_config.json"),
        *("vocab.json", "source.spm", "target.spm", "README.md"),
    }


@pytest.mark.parametrize("model", LAYOUTS)
def test_marian_gives_fairseq_s_logits(model, exports, pieces, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    plain, companions = read_source(exports.folders[model])
    folder = write_huggingface(plain, companions, tmp_path / "out")
    marian = transformers.MarianMTModel.from_pretrained(str(folder)).eval()
    stock, source, target = stock_model(plain, companions)
    rows = [[*map(source.index, sentence), source.eos()] for sentence in pieces[:4]]
    longest = max(map(len, rows))
    left = torch.tensor([[1] * (longest - len(row)) + row for row in rows])
    right = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    previous = torch.randint(4, len(target), (4, 7), generator=torch.Generator().manual_seed(1))
    previous[:, 0] = target.eos()
    with torch.no_grad():
        expected = stock(left, torch.tensor([len(row) for row in rows]), previous)[0]
        logits = marian(
            input_ids=right, attention_mask=right.ne(1).long(), decoder_input_ids=previous
        ).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", ["tree0", "stock0"])
def test_transformers_translates_a_marian_folder_like_fairseq(
    model, exports, pieces, tmp_path, run_readme
):
    pytest.importorskip("transformers", reason="transformers is not installed")
    folder = write_huggingface(*read_source(exports.folders[model]), tmp_path / "out")
    found = load_translator(folder).translate_tokens(pieces)
    expected = [tuple(text.split()) for text in exports.stock.values(model, "H")]
    assert sum(f[0].tokens == e for f, e in zip(found, expected, strict=True)) >= 59
    assert run_readme(folder, 2) == exports.stock.text(model)[2]


def test_transformers_that_is_not_installed_is_named(exports, tmp_path, monkeypatch):
    folder = write_huggingface(*read_source(exports.folders["tree0"]), tmp_path / "out")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'tsa-mt\[huggingface\]'"):
        load_translator(folder)


def test_everything_that_marian_lacks_is_listed_at_once(exports, tmp_path):
    plain, companions = read_source(exports.folders["separate0"])
    plain.options.update(activation_fn="tanh", decoder_output_dim=16)
    without = Companions(companions.languages, companions.dictionaries, {})
    with pytest.raises(ValueError, match="MarianMTModel, .* does not support: ") as error:
        write_huggingface(plain, without, tmp_path / "out")
    for reason in (
        "--encoder-normalize-before",
        "--decoder-normalize-before",
        "--layernorm-embedding",
        "--activation-fn tanh (it has relu,",
        "an encoder and decoder of different widths",
        "a subword model that is not SentencePiece's, or none",
    ):
        assert reason in str(error.value)
    assert not (tmp_path / "out").exists()


def test_one_subword_model_per_language_goes_to_its_side(exports, toy, tmp_path):
    plain, companions = read_source(exports.folders["tree0"])
    models = {}
    for language in ("yy", "xx"):
        models[f"spm.{language}.model"] = tmp_path / f"spm.{language}.model"
        models[f"spm.{language}.model"].write_text(language)
    pair = Companions(companions.languages, companions.dictionaries, models)
    folder = write_huggingface(plain, pair, tmp_path / "out")
    assert [(folder / name).read_text() for name in huggingface.SUBWORDS] == ["xx", "yy"]
