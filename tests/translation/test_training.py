"""Training, resuming, validating and translating through fairseq's own commands."""

import importlib
import json
import logging
import multiprocessing
import os
import random
import shutil
import socket
import sys
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils

import tsa_mt

USER_DIR = Path(tsa_mt.__file__).parent
SENTENCES = {"train": 60, "valid": 13, "test": 11}  # no multiples of fairseq's eight
SIZE = (
    "--encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 24 "
    "--encoder-attention-heads 2 --decoder-layers 3 --decoder-attention-heads 2"
).split()
TREE = ["--arch", "tree_transformer_tiny", "--tree", "1(1(1,2),1)", *SIZE]
TSA = [*TREE, "--criterion", "online_kd", "--label-smoothing", "0.1"]
PLAIN = ["--arch", "transformer_tiny", *SIZE, "--criterion", "label_smoothed_cross_entropy"]


class Records(logging.Handler):
    """Keeps what fairseq logs."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.messages = []

    def emit(self, record):
        self.messages.append((record.name, record.getMessage()))

    def figures(self, kind):
        """The last line of figures that a command printed as JSON: ``train`` or ``valid``."""
        return json.loads([text for name, text in self.messages if name == kind][-1])


def command(name, *arguments):
    """A console script of fairseq in this process; what it logged."""
    module = importlib.import_module(f"fairseq_cli.{name}")
    records, before = Records(), sys.argv
    # Not the root: fairseq-validate takes its handlers away.
    logger = logging.getLogger("fairseq.logging.progress_bar")
    logger.addHandler(records)
    logger.setLevel(logging.INFO)
    sys.argv = [f"fairseq-{name}", *map(str, arguments)]
    try:
        module.cli_main()
    finally:
        sys.argv = before
        logger.removeHandler(records)
        logger.setLevel(logging.NOTSET)
    return records


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A binarised corpus of twelve words whose translation is the reversed sentence."""
    folder, draw = tmp_path_factory.mktemp("corpus"), random.Random(0)
    words = [f"w{number}" for number in range(12)]
    for split, count in SENTENCES.items():
        sentences = [draw.choices(words, k=draw.randint(2, 7)) for _ in range(count)]
        for side, order in (("x", 1), ("y", -1)):
            text = "".join(" ".join(sentence[::order]) + "\n" for sentence in sentences)
            (folder / f"{split}.{side}").write_text(text)
    prefixes = [part for split in SENTENCES for part in (f"--{split}pref", folder / split)]
    languages = ("-s", "x", "-t", "y", "--joined-dictionary")
    command("preprocess", *languages, *prefixes, "--destdir", folder / "bin")
    return folder / "bin"


@pytest.fixture(scope="module")
def train(data):
    """fairseq-train into a folder, 16 sentences a batch and so four updates an epoch."""

    def function(folder, *arguments):
        always = "--cpu --num-workers 0 --batch-size 16 --log-format json --seed 1 --optimizer adam"
        vars(checkpoint_utils.save_checkpoint).pop("best", None)  # of an earlier training here
        return command("train", data, *always.split(), "--save-dir", folder, *arguments)

    return function


def load(path):
    return torch.load(path, weights_only=True)


def parameters(path):
    return load(path)["model"]


LONG = [*TSA, "--dropout", "0.2", "--lr", "0.01", "--max-update", "6"]


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """Six updates with dropout, saved after every three: the folder and the log."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, train(folder, *LONG, "--save-interval-updates", "3")


# --- training and resuming ----------------------------------------------------------------------


def test_training_reports_the_leader_the_terms_and_every_leaf(trained):
    _, records = trained
    valid, last = records.figures("valid"), records.figures("train")
    names = "loss nll_loss ppl accuracy total_loss loss_task loss_distillation".split()
    names += "nll_b0 nll_b1 nll_b2 agreement kl_leaves".split()
    assert {f"valid_{name}" for name in names} <= set(valid)
    assert {f"train_{name}" for name in names} <= set(last)
    assert float(valid["valid_nll_loss"]) == pytest.approx(float(valid["valid_nll_b0"]))


def test_resuming_in_the_middle_of_an_epoch_changes_not_a_single_bit(trained, train, tmp_path):
    folder, _ = trained
    shutil.copy(folder / "checkpoint_1_3.pt", tmp_path / "checkpoint_last.pt")
    train(tmp_path, *LONG)
    whole, resumed = (load(path / "checkpoint_last.pt") for path in (folder, tmp_path))
    assert resumed["model"].keys() == whole["model"].keys()
    for key, value in whole["model"].items():
        assert torch.equal(resumed["model"][key], value), key
    states = [state["last_optimizer_state"]["state"] for state in (whole, resumed)]
    assert len(states[0]) == len(states[1]) > 0
    for index, state in states[0].items():
        for key, value in state.items():
            assert not torch.is_tensor(value) or torch.equal(value, states[1][index][key])
    three = parameters(folder / "checkpoint_1_3.pt")
    assert not all(torch.equal(three[key], value) for key, value in whole["model"].items())


@pytest.mark.parametrize("flag", ["--fp16", "--memory-efficient-fp16", "--bf16", "--amp"])
def test_half_precision_learns_what_float32_learns(train, tmp_path, flag):
    if flag == "--fp16" and torch.cuda.is_available():
        pytest.skip("where there is a GPU, fairseq's --fp16 --cpu computes no gradients")
    few = "--lr 0.01 --dropout 0 --max-update 3 --disable-validation".split()
    exact = train(tmp_path / "exact", *TSA, *few)
    scale = ["--fp16-init-scale", "2"]
    half = train(tmp_path / "half", *TSA, *few, flag, *scale)
    for name in ("train_loss", "train_total_loss", "train_gnorm"):
        values = [float(records.figures("train")[name]) for records in (half, exact)]
        assert values[0] == pytest.approx(values[1], rel=2e-2), name


def test_a_checkpoint_minus_its_branches_has_a_stock_transformer_s_keys(trained, train, tmp_path):
    train(tmp_path, *PLAIN, "--lr", "0.01", "--max-update", "1", "--disable-validation")
    ours = [k for k in parameters(trained[0] / "checkpoint_last.pt") if ".branches." not in k]
    assert ours == list(parameters(tmp_path / "checkpoint_last.pt"))


def test_a_checkpoint_is_stored_with_a_flat_config(trained):
    config = load(trained[0] / "checkpoint_last.pt")["cfg"]["model"]
    assert (config["tree"], config["kd_objective"]) == ("1(1(1,2),1)", "tsa")
    assert config["decode_branch"] == 0
    assert (config["encoder_embed_dim"], config["decoder_layers"]) == (16, 3)


def test_moving_averages_of_the_weights_are_kept_for_branches_too(train, tmp_path):
    flags = "--store-ema --ema-decay 0.5 --ema-fp32 --lr 0.01 --max-update 2".split()
    train(tmp_path, *TSA, *flags)
    state = load(tmp_path / "checkpoint_last.pt")
    average = state["extra_state"]["ema"]
    assert average.keys() == state["model"].keys()
    moved = [key for key, value in average.items() if not torch.equal(value, state["model"][key])]
    assert any(".branches." in key for key in moved)
    train(tmp_path, *TSA, *flags[:-1], "3")  # and they can be resumed from


# --- several processes --------------------------------------------------------------------------


def rank(number, port, folder, data, backend, updates, failures):
    """One of two processes, started as torchrun starts them."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2")
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number))
    try:
        always = "--cpu --num-workers 0 --batch-size 20 --seed 1 --optimizer sgd --lr 0.5".split()
        extra = ["--ddp-backend", backend, "--dropout", "0", "--max-update", str(updates)]
        command("train", data, *always, *TSA, *extra, "--save-dir", folder)
    except BaseException as error:
        failures.put(f"rank {number}: {type(error).__name__}: {error}")
        raise


def in_two_processes(folder, data, backend, updates):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    failures = fork.SimpleQueue()
    arguments = (port, folder, data, backend, updates, failures)
    ranks = [fork.Process(target=rank, args=(number, *arguments)) for number in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=300)
    codes = [process.exitcode for process in ranks]
    for process in ranks:
        process.kill()
    assert codes == [0, 0], None if failures.empty() else failures.get()


@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_two_processes_learn_what_one_learns_from_two_batches(data, train, tmp_path, backend):
    # three batches an epoch: at every second update one process has a dummy batch
    in_two_processes(tmp_path / "two", data, backend, updates=3)
    always = "--optimizer sgd --lr 0.5 --dropout 0 --max-update 3 --update-freq 2 --batch-size 20"
    train(tmp_path / "one", *TSA, *always.split())
    two, one = (parameters(tmp_path / name / "checkpoint_last.pt") for name in ("two", "one"))
    assert two.keys() == one.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-6, msg=key)


# --- warm start ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(train, tmp_path_factory):
    """A checkpoint of a stock Transformer."""
    folder = tmp_path_factory.mktemp("plain")
    train(folder, *PLAIN, "--lr", "0.01", "--max-update", "2")
    return folder / "checkpoint_last.pt"


RESTORE = {
    "finetune": ["--finetune-from-model"],
    "restore": [
        *("--reset-optimizer", "--reset-dataloader", "--reset-meters", "--reset-lr-scheduler"),
        "--restore-file",
    ],
}


@pytest.mark.parametrize("way", RESTORE)
@pytest.mark.parametrize("init", ["fresh", "copy"])
def test_a_plain_checkpoint_becomes_the_leader(plain, train, tmp_path, way, init):
    still = "--lr 0 --max-update 1 --branch-init".split()  # an update that changes nothing
    train(tmp_path, *TSA, *still, init, *RESTORE[way], plain)
    old, new = parameters(plain), parameters(tmp_path / "checkpoint_last.pt")
    assert all(torch.equal(new[key], value) for key, value in old.items())
    copies = [
        torch.equal(new[f"decoder.branches.nodes.4.0.{key}"], new[f"decoder.layers.1.{key}"])
        for key in ("fc1.weight", "self_attn.k_proj.weight", "encoder_attn.q_proj.weight")
    ]
    assert set(copies) == {init == "copy"}


def test_training_goes_on_from_a_plain_checkpoint(plain, train, tmp_path):
    records = train(
        tmp_path, *TSA, "--lr", "0.01", "--max-update", "2", "--finetune-from-model", plain
    )
    assert float(records.figures("train")["train_gnorm"]) > 0


# --- validating and translating -----------------------------------------------------------------


def translate(data, checkpoint, folder, *arguments):
    """The hypotheses of the test set by sentence number, as fairseq-generate wrote them."""
    always = "--cpu --num-workers 0 --batch-size 8 --beam 3 --results-path".split()
    command("generate", data, "--path", checkpoint, *always, folder, *arguments)
    lines = (folder / "generate-test.txt").read_text().splitlines()
    found = [line[2:].split("\t") for line in lines if line.startswith("H-")]
    return {int(number): text for number, _, text in found}


def test_validating_a_checkpoint_gives_what_training_printed(trained, data):
    folder, records = trained
    flags = "--cpu --num-workers 0 --batch-size 16 --log-format json --task translation".split()
    again = command("validate", data, "--path", folder / "checkpoint_last.pt", *flags)
    before, after = records.figures("valid"), again.figures("valid")
    for name in ("loss", "nll_loss", "ppl", "accuracy", "total_loss", "kl_leaves", "nll_b2"):
        assert float(after[f"valid_{name}"]) == pytest.approx(
            float(before[f"valid_{name}"]), abs=2e-3
        ), name


@pytest.mark.parametrize("branch", [0, 1, 2, -1])
def test_every_sentence_is_translated_once_whatever_decodes(trained, data, tmp_path, branch):
    overrides = ["--model-overrides", f"{{'decode_branch': {branch}}}"]
    checkpoint = trained[0] / "checkpoint_last.pt"
    hypotheses = translate(data, checkpoint, tmp_path, *overrides)
    assert sorted(hypotheses) == list(range(SENTENCES["test"]))


def test_a_branch_that_the_tree_has_not_is_refused(trained, data, tmp_path):
    overrides = ["--model-overrides", "{'decode_branch': 3}"]
    message = r"decode_branch 3: tree '1\(1\(1,2\),1\)' has leaves 0 to 2"
    with pytest.raises(ValueError, match=message):
        translate(data, trained[0] / "checkpoint_last.pt", tmp_path, *overrides)


def test_an_old_checkpoint_that_lacks_later_options_still_translates(trained, data, tmp_path):
    state = load(trained[0] / "checkpoint_last.pt")
    later = ["branch_init", "branch_projection", "decode_branch", "ddp_backend", "peer_encoders"]
    for name in [*later, *[key for key in state["cfg"]["model"] if key.startswith("kd_")]]:
        del state["cfg"]["model"][name]
    torch.save(state, tmp_path / "old.pt")
    expected = translate(data, trained[0] / "checkpoint_last.pt", tmp_path / "now")
    assert translate(data, tmp_path / "old.pt", tmp_path / "then") == expected


def test_the_leader_is_what_bleu_is_computed_of_during_training(train, tmp_path):
    arguments = '{"beam": 1, "max_len_b": 5}'
    flags = ["--eval-bleu", "--eval-bleu-args", arguments, "--best-checkpoint-metric", "bleu"]
    records = train(
        tmp_path, *TSA, *flags, "--maximize-best-checkpoint-metric", "--lr", "0", "--max-update", 1
    )
    assert "valid_bleu" in records.figures("valid")


# --- complaints and configs ---------------------------------------------------------------------


def test_a_stock_architecture_with_our_criterion_is_explained(train, tmp_path):
    with pytest.raises(ValueError, match="online_kd needs a model with branches.*tree_transformer"):
        train(tmp_path, *PLAIN[:-2], "--criterion", "online_kd", "--lr", "0.01")


def test_a_tree_under_a_stock_criterion_is_refused_before_anything_is_written(train, tmp_path):
    criterion = ["--criterion", "label_smoothed_cross_entropy"]
    message = r"trains only the leader of tree '.*' and nothing of objective 'tsa'.*online_kd"
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "out", *TREE, *criterion, "--lr", "0.01", "--max-update", "2")
    assert not (tmp_path / "out" / "run.json").exists()


YAML = """
common: {{cpu: true, user_dir: {user_dir}, seed: 1, log_format: json}}
task: {{_name: translation, data: {data}}}
dataset: {{batch_size: 16, num_workers: 0}}
optimization: {{max_update: 6, lr: [0.01]}}
optimizer: {{_name: adam}}
lr_scheduler: {{_name: fixed}}
checkpoint: {{save_dir: {save_dir}}}
criterion: {{_name: online_kd, label_smoothing: 0.1}}
model:
  _name: tree_transformer
  tree: 1(1(1,2),1)
  kd_detach: yes
  kd_temperature: 2
  dropout: 0.2
  encoder_layers: 1
  encoder_embed_dim: 16
  encoder_ffn_embed_dim: 24
  encoder_attention_heads: 2
  decoder_layers: 3
  decoder_embed_dim: 16
  decoder_ffn_embed_dim: 24
  decoder_attention_heads: 2
"""


def test_a_yaml_trains_what_the_command_line_trains(train, data, tmp_path, python):
    settings = {"user_dir": USER_DIR, "data": data, "save_dir": tmp_path / "yaml"}
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "tree.yaml").write_text("# @package _group_" + YAML.format(**settings))
    program = "from fairseq_cli.hydra_train import cli_main; cli_main()"
    where = ("--config-dir", tmp_path / "conf", "--config-name", "tree")
    python("-c", program, *where, cwd=tmp_path)
    flags = "--kd-detach yes --kd-temperature 2 --decoder-embed-dim 16 --decoder-ffn-embed-dim 24"
    train(tmp_path / "flags", *LONG, *flags.split())
    yaml, line = (load(tmp_path / x / "checkpoint_last.pt") for x in ("yaml", "flags"))
    for key in ("tree", "kd_objective", "kd_temperature", "decoder_layers", "encoder_embed_dim"):
        assert yaml["cfg"]["model"][key] == line["cfg"]["model"][key], key
    assert yaml["model"].keys() == line["model"].keys()
    for key, value in line["model"].items():
        assert torch.equal(yaml["model"][key], value), key
