"""CTranslate2 models: the same tokens as fairseq's beam search, from every branch."""

import copy
import hashlib
import math
import sys

import pytest
import torch

from tsa_mt.cli import main as tsa_mt_cli
from tsa_mt.export.checkpoint import load_checkpoint
from tsa_mt.export.ctranslate2 import convert, write_ctranslate2
from tsa_mt.export.leader import plain_transformer
from tsa_mt.export.source import read_source

ctranslate2 = pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")

BRANCHES = [(model, branch) for model in ("tree", "separate") for branch in range(3)]


def translator(folder):
    return ctranslate2.Translator(str(folder), device="cpu", intra_threads=1)


def translate(folder, sources):
    results = translator(folder).translate_batch(sources, beam_size=5, max_decoding_length=200)
    return [result.hypotheses[0] for result in results]


def lost(model, sources, ours, theirs):
    """By how much the model finds others' translations more likely per token, where they differ."""
    rows = [row for row in zip(sources, ours, theirs, strict=True) if row[1] != row[2]]
    texts, *pair = zip(*rows, strict=True) if rows else ((), (), ())
    means = [
        [sum(score.log_probs) / len(score.log_probs) for score in model.score_batch(texts, found)]
        for found in pair
    ]
    return [theirs - ours for ours, theirs in zip(*means, strict=True)]


@pytest.fixture(scope="module")
def pieces(toy):
    """The test set as subword pieces."""
    return [line.split() for line in toy.raw("pieces.test", "xx")]


@pytest.mark.parametrize(("model", "branch"), [*BRANCHES, ("stock", 0)])
def test_a_converted_branch_translates_like_fairseq(model, branch, runs, exports, pieces, tmp_path):
    """The same tokens, near ties aside, and for fairseq's tokens the same log probabilities.

    The two searches prune in other ways, and how many sentences that meets is the trained model's:
    the toy's last bits follow the arithmetic that training measured as fastest. Each difference
    must be a small one: 5 % of the likelihood of a token.
    """
    folder = convert(runs[model] / "checkpoint_last.pt", tmp_path / "ct2", branch=branch)
    expected = [text.split() for text in exports.stock.values(f"{model}{branch}", "H")]
    assert len(expected) == 61
    ties = lost(translator(folder), pieces, translate(folder, pieces), expected)
    assert len(ties) <= 3
    assert ties == pytest.approx([0] * len(ties), abs=5e-2)
    positional = exports.stock.values(f"{model}{branch}", "P")
    scores = translator(folder).score_batch(pieces, expected)
    for score, printed in zip(scores, positional, strict=True):
        base_2 = [float(value) for value in printed.split()]
        assert [value / math.log(2) for value in score.log_probs] == pytest.approx(base_2, abs=1e-3)


def test_converting_an_export_equals_converting_its_checkpoint(exports, separate_run, tmp_path):
    one = convert(separate_run / "checkpoint_last.pt", tmp_path / "one", branch=2)
    other = convert(exports.folders["separate2"], tmp_path / "other")
    for name in ("model.bin", "config.json", "shared_vocabulary.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_the_folder_is_self_sufficient(exports, toy, tmp_path):
    folder = convert(exports.folders["tree0"], tmp_path / "ct2")
    assert {path.name for path in folder.iterdir()} == {
        "model.bin",
        "config.json",
        "shared_vocabulary.json",
        "sentencepiece.bpe.model",
        "README.md",
    }
    assert (folder / "sentencepiece.bpe.model").read_bytes() == toy.pieces.read_bytes()


WITHOUT = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "fairseq"):
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Refusing())
from tsa_mt.cli import main
sys.exit(main(["translate", sys.argv[1], "--quiet", "--input", sys.argv[2]]))
"""


def test_the_folder_is_translated_with_neither_pytorch_nor_fairseq(
    exports, toy, tmp_path, python, capsys
):
    folder = convert(exports.folders["tree0"], tmp_path / "ct2")
    (tmp_path / "in").write_text("\n".join(toy.raw("test", "xx")[:5]) + "\n", encoding="utf-8")
    arguments = [str(folder), str(tmp_path / "in")]
    done = python("-c", WITHOUT, *arguments)
    assert tsa_mt_cli(["translate", arguments[0], "--quiet", "--input", arguments[1]]) == 0
    assert done.stdout == capsys.readouterr().out
    assert done.stdout.count("\n") == 5


def test_the_readme_s_python_runs_and_says_what_is_in_the_folder(
    exports, tree_run, tmp_path, run_readme
):
    checkpoint = tree_run.parent / "separate" / "checkpoint_last.pt"
    folder = convert(checkpoint, tmp_path / "ct2", quantization="int8")
    assert run_readme(folder) == exports.stock.text("separate0")[0]
    readme = (folder / "README.md").read_text()
    assert "weights stored as int8" in readme
    assert hashlib.sha256(checkpoint.read_bytes()).hexdigest() in readme


@pytest.mark.parametrize("quantization", ["int8", "int16", "float16", "bfloat16"])
def test_quantized_models_are_smaller_and_translate(quantization, exports, pieces, tmp_path):
    plain = convert(exports.folders["separate0"], tmp_path / "plain")
    small = convert(exports.folders["separate0"], tmp_path / "small", quantization)
    assert (small / "model.bin").stat().st_size < 0.8 * (plain / "model.bin").stat().st_size
    results = translate(small, pieces[:20])
    reference = translate(plain, pieces[:20])
    same = sum(one == other for one, other in zip(results, reference, strict=True))
    assert same >= 15


def test_quantization_leaves_the_weights_it_was_given_alone(exports, tmp_path):
    plain, companions = read_source(exports.folders["tree1"])
    before = copy.deepcopy(plain.weights)
    write_ctranslate2(plain, companions, tmp_path / "int8", quantization="int8")
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.weights.items())


def test_everything_ctranslate2_lacks_is_listed_at_once(exports, tmp_path):
    plain, companions = read_source(exports.folders["tree0"])
    plain.options.update(
        activation_fn="tanh",
        no_token_positional_embeddings=True,
        cross_self_attention=True,
        decoder_output_dim=16,
    )
    with pytest.raises(ValueError, match="CTranslate2 does not support: ") as error:
        write_ctranslate2(plain, companions, tmp_path / "ct2", quantization="int4")
    for reason in (
        "--activation-fn tanh (it has relu, gelu,",
        "--no-token-positional-embeddings",
        "--cross-self-attention",
        "input, inner and output dimensions differ",
        "--quantization int4 (it has int8,",
    ):
        assert reason in str(error.value)
    assert not (tmp_path / "ct2").exists()


def test_an_earlier_conversion_is_only_replaced_with_force(exports, tmp_path):
    convert(exports.folders["tree0"], tmp_path / "ct2")
    with pytest.raises(FileExistsError, match="pass --force to replace it"):
        convert(exports.folders["tree1"], tmp_path / "ct2")
    before = (tmp_path / "ct2" / "model.bin").read_bytes()
    convert(exports.folders["tree1"], tmp_path / "ct2", force=True)
    assert (tmp_path / "ct2" / "model.bin").read_bytes() != before


def test_a_fairseq_export_is_not_replaced_by_a_conversion(exports):
    folder = exports.folders["tree0"]
    with pytest.raises(FileExistsError, match=r"not an earlier export of this kind \(no model.bin"):
        convert(folder, folder, force=True)


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    exports, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(ValueError, match=r"pip install 'tsa-mt\[deploy\]'"):
        convert(exports.folders["tree0"], tmp_path / "ct2")


def test_the_command_converts_and_quantizes(tree_run, tmp_path, capsys):
    source, out = str(tree_run / "checkpoint_last.pt"), str(tmp_path / "ct2")
    arguments = ["export", source, out, "--to", "ctranslate2", "--quantization", "int8"]
    assert tsa_mt_cli([*arguments, "--no-certificate"]) == 0
    assert "model.bin" in capsys.readouterr().out


def test_quantization_is_refused_where_nothing_is_quantized(tree_run, tmp_path, capsys):
    source, out = str(tree_run / "checkpoint_last.pt"), str(tmp_path / "out")
    assert tsa_mt_cli(["export", source, out, "--to", "fairseq", "--quantization", "int8"]) == 1
    assert "--quantization int8 is not possible with --to fairseq" in capsys.readouterr().err


def test_weights_in_half_precision_convert(tree_run, exports, pieces, tmp_path):
    plain = plain_transformer(load_checkpoint(tree_run / "checkpoint_last.pt"))
    _, companions = read_source(exports.folders["tree0"])
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in plain.weights.items()
    }
    plain.weights.update(half)
    folder = write_ctranslate2(plain, companions, tmp_path / "ct2")
    assert len(translate(folder, pieces[:3])) == 3
