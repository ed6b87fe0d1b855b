"""Every objective through fairseq-train: resumed exactly, decoded like its export, in parallel."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from tsa_mt.objectives import OBJECTIVES
from tsa_mt.sources import AVERAGED

ALIKE = ("kdcl_linear", "kdcl_min_logit")  # differ from kdcl_naive in a formula without state
UNTAUGHT = [n for n, cls in OBJECTIVES.items() if not cls.needs_teacher and n not in ALIKE]
TREES = {
    "rdrop": "2",
    "simcut": "2",
    "mean_teacher": "2",
    "independent": "1(1,1)",
    "ahbf": "1(1,2,3)",
}
RUNS = [(name, ("--tree", TREES.get(name, "1(1,1,1)"))) for name in UNTAUGHT]
RUNS += [
    ("okddip", ("--peer-encoders", "--tree", "0(2,2,2)")),
    ("pcl", ("--share-all-embeddings", "--kd-rdrop-weight", "1", "--tree", "1(1(0,1),1)")),
    ("pcl", ("--branch-projection", "separate", "--tree", "1(1,1)")),
    ("tsa", ("--encoder-layers", "2", "--tree", "1(1/2,1/1(1,1))", "--kd-row-share", ".5")),
    ("ensemble", ("--kd-start", "2", "--kd-simcut-weight", "1", "--tree", "1(1,1)")),
    ("mean_teacher", ("--kd-word-dropout", ".3", "--share-all-embeddings", "--tree", "1(1,1)")),
]


@pytest.fixture(scope="module")
def trained(tiny_data, train, tmp_path_factory):
    """Trains once for every objective and tree: four updates, saved after two as well."""
    done = {}

    def function(name, more):
        if (name, more) not in done:
            folder = tmp_path_factory.mktemp(name)
            done[name, more] = folder, train(tiny_data, folder, *options_of(name, more))
        return done[name, more]

    return function


def options_of(name, more):
    return (
        *("--kd-objective", name, *more, "--decoder-layers", "2", "--max-update", "4"),
        *("--save-interval-updates", "2"),
    )


@pytest.mark.parametrize(("name", "more"), RUNS, ids=str)
def test_a_training_resumes_exactly(name, more, trained, tiny_data, train, tmp_path):
    folder, whole = trained(name, more)
    half = folder / "checkpoint_1_2.pt"
    resumed = train(tiny_data, tmp_path, *options_of(name, more), "--restore-file", half)
    assert resumed["optimizer_history"][-1]["num_updates"] == 4
    assert whole["model"].keys() == resumed["model"].keys()
    for key, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][key]), key
    started = torch.load(half, weights_only=False)["model"]
    own = [key for key in started if ".objective." in key]
    assert all(not torch.equal(started[key], whole["model"][key]) for key in own)


@pytest.mark.parametrize(("name", "more"), RUNS, ids=str)
def test_what_ships_decodes_like_its_export(name, more, trained, tiny_data, tmp_path):
    from fairseq import checkpoint_utils

    from tsa_mt.cli import main

    folder, _ = trained(name, more)
    checkpoint, target = folder / "checkpoint_last.pt", tmp_path / "plain"
    arguments = ["--to", "fairseq", "--data", str(tiny_data)]
    assert main(["export", str(checkpoint), str(target), *arguments]) == 0
    (exported,) = target.glob("*.pt")
    tokens = torch.tensor([[9, 12, 7, 2], [1, 20, 5, 2]])
    shipped = {"decode_branch": AVERAGED} if OBJECTIVES[name].ships_average else {}
    hypotheses = []
    for path, overrides in ((checkpoint, shipped), (exported, {})):
        (model,), _, task = checkpoint_utils.load_model_ensemble_and_task(
            [str(path)], arg_overrides={"data": str(tiny_data), **overrides}
        )
        model.eval()
        generator = task.build_generator([model], beam_args())
        sample = {"net_input": {"src_tokens": tokens, "src_lengths": torch.tensor([4, 3])}}
        found = task.inference_step(generator, [model], sample)
        hypotheses.append([(h["tokens"].tolist(), h["score"].item()) for s in found for h in s])
    assert hypotheses[0] == hypotheses[1]


def beam_args():
    from argparse import Namespace

    return Namespace(beam=3, max_len_a=0, max_len_b=8, nbest=3)


def test_a_ramp_up_without_a_known_length_is_refused(tiny_data, train, tmp_path):
    options = ("--kd-objective", "okddip", "--tree", "1(1,1)", "--decoder-layers", "2")
    message = "'okddip' ramps up over 0.266667 of the training, whose length is not known; give"
    with pytest.raises(ValueError, match=message):
        train(tiny_data, tmp_path, *options, "--max-epoch", "1")
    train(tiny_data, tmp_path, *options, "--max-epoch", "1", "--kd-rampup-updates", "3")


def test_the_ramp_up_is_logged(tiny_data, train, tmp_path, caplog):
    caplog.set_level("INFO")
    options = ("--kd-objective", "okddip", "--tree", "1(1,1)", "--decoder-layers", "2")
    shown = ("--log-format", "simple", "--log-interval", "1", "--max-update", "3")
    train(tiny_data, tmp_path, *options, *shown, "--kd-rampup-updates", "2")
    ramps = [
        float(part.split("=")[1])
        for record in caplog.records
        for part in record.getMessage().replace(",", " ").split()
        if part.startswith("ramp=") and record.name == "train_inner"
    ]
    expected = [2.718281828 ** (-5 * (1 - done) ** 2) for done in (0.0, 0.5, 1.0)]
    assert ramps == pytest.approx(expected, abs=1e-3)


def test_the_averaged_network_moves_once_per_update(tiny_data, train, tmp_path):
    options = ("--kd-objective", "pcl", "--tree", "1(1,1)", "--decoder-layers", "2")
    saved = train(tiny_data, tmp_path, *options, "--max-update", "2", "--update-freq", "2")["model"]
    prefix = "decoder.branches.averaged."
    assert saved[f"{prefix}updates"].item() == 2  # what is saved after update 2 has averaged it
    names = {key.removeprefix(prefix) for key in saved if key.startswith(prefix)} - {"updates"}
    assert names < set(saved)
    assert not any(".objective." in name for name in names)
    moved = [name for name in names if not torch.equal(saved[name], saved[prefix + name])]
    assert len(moved) > len(names) / 2


PROBE = """
import sys
import torch
from fairseq import options, distributed_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli.train import main
import tsa_mt

if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = options.parse_args_and_arch(options.get_training_parser(), sys.argv[1:])
    distributed_utils.call_main(convert_namespace_to_omegaconf(arguments), main)
"""


@pytest.mark.parametrize(
    ("name", "backend", "more"),
    [
        ("okddip", "legacy_ddp", ("--kd-row-share", ".6")),
        ("okddip", "pytorch_ddp", ("--encoder-layers", "2", "--tree", "1(1/2,1/1(1,1))")),
        ("pcl", "pytorch_ddp", ()),
    ],
)
def test_two_processes_equal_one_with_two_micro_batches(
    name, backend, more, tiny_data, train, command, root, tmp_path
):
    probe = tmp_path / "probe.py"
    probe.write_text(PROBE)
    options = (
        *("--kd-objective", name, "--tree", "1(1,1,1)", "--decoder-layers", "2"),
        *("--dropout", "0", "--max-update", "3", "--optimizer", "sgd", "--lr", "0.1", *more),
    )
    single = train(tiny_data, tmp_path / "one", *options, "--update-freq", "2")["model"]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, str(probe)),
                *command(tiny_data, tmp_path / "two", *options, "--ddp-backend", backend),
                *("--distributed-world-size", "2", "--distributed-rank", str(rank)),
                *("--distributed-init-method", f"tcp://localhost:{port}"),
                *("--distributed-backend", "gloo", "--distributed-no-spawn"),
            ],
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error[-3000:]
    double = torch.load(tmp_path / "two" / "checkpoint_last.pt", weights_only=False)["model"]
    assert double.keys() == single.keys()
    for key, value in single.items():
        torch.testing.assert_close(double[key], value, rtol=1e-4, atol=1e-6, msg=key)
