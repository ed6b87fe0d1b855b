"""Semi-online distillation in training: the bridge grows out of the teacher and stays beside it."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from fairseq import options
from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from tsa_mt.teacher import load_teacher

STUDENT = [
    *("--arch", "tree_transformer", "--encoder-embed-dim", "16", "--decoder-embed-dim", "16"),
    *("--encoder-ffn-embed-dim", "32", "--decoder-ffn-embed-dim", "32"),
    *("--encoder-layers", "1", "--decoder-layers", "2"),
    *("--encoder-attention-heads", "2", "--decoder-attention-heads", "2"),
    *("--criterion", "online_kd", "--label-smoothing", "0.1", "--kd-objective", "sokd"),
]
BRIDGE = "decoder.branches.bridge."


def build(toy, teacher, *flags):
    """Task, model and criterion as fairseq-train builds them."""
    arguments = [toy.data, "-s", "xx", "-t", "yy", "--kd-teacher", teacher, *STUDENT, *flags]
    parsed = options.parse_args_and_arch(options.get_training_parser(), [*map(str, arguments)])
    config = convert_namespace_to_omegaconf(parsed)
    task = toy.task()
    return task, task.build_model(config.model), task.build_criterion(config.criterion)


def test_a_copied_bridge_says_what_the_teacher_says(toy, teacher_file):
    task, model, criterion = build(toy, teacher_file)
    batch = toy.batch(task)
    model.eval()
    said = load_teacher(str(teacher_file), task).run(batch["net_input"], torch.zeros(1))
    student, bridge = model(**batch["net_input"], branches=True, teacher=said).features
    torch.testing.assert_close(bridge, said.features)
    assert (student.shape[-1], bridge.shape[-1]) == (16, 24)
    criterion.eval()
    assert abs(criterion.compute(model, batch)[0].terms["bridge_teacher"].item()) < 1e-3


@pytest.mark.parametrize(
    ("flags", "layers", "alike"),
    [
        ([], (0, 1), True),
        (["--kd-bridge-layers", "3"], (0, 1, 2), True),
        (["--kd-bridge-init", "random"], (0, 1), False),
    ],
)
def test_the_bridge_copies_the_top_layers_or_starts_anew(toy, teacher_file, flags, layers, alike):
    task, model, _ = build(toy, teacher_file, *flags)
    decoder = load_teacher(str(teacher_file), task).model.decoder
    bridge = model.decoder.branches.bridge
    assert tuple(range(len(bridge.layers))) == layers
    for mine, theirs in zip(bridge.layers, list(decoder.layers)[-len(layers) :], strict=True):
        assert torch.equal(mine.fc1.weight, theirs.fc1.weight) == alike
        assert mine.fc1.weight.data_ptr() != theirs.fc1.weight.data_ptr()
    norms = (bridge.layer_norm.weight, decoder.layer_norm.weight)
    assert torch.equal(*norms) == alike


def test_every_parameter_of_student_and_bridge_learns_and_none_of_the_teacher(toy, teacher_file):
    task, model, criterion = build(toy, teacher_file)
    before = [p.clone() for p in criterion.teachers[0].model.parameters()]
    criterion.train()
    model.train()
    loss, _, _ = criterion(model, toy.batch(task))
    loss.backward()
    named = dict(model.named_parameters())
    assert [name for name in named if name.startswith(BRIDGE)]
    assert [name for name, p in named.items() if p.grad is None or not p.grad.any()] == []
    after = list(criterion.teachers[0].model.parameters())
    assert all(p.grad is None and torch.equal(p, q) for p, q in zip(after, before, strict=True))
    assert list(criterion.parameters()) == []


def test_the_criterion_chunks_bridge_and_teacher_like_everything_else(toy, teacher_file):
    task, model, criterion = build(toy, teacher_file)
    model.eval()  # no dropout
    batch, parameters, results = toy.batch(task), list(model.parameters()), []
    for rows in (0, 5, None):
        criterion.kd_chunk_rows = rows
        loss, _, _ = criterion(model, batch)
        results.append([loss.detach(), *torch.autograd.grad(loss, parameters)])
    for other in results[1:]:
        for mine, theirs in zip(other, results[0], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def student_file(toy, teacher_file, tmp_path_factory):
    """Trained for four updates; its teacher's file stands beside it."""
    folder = tmp_path_factory.mktemp("student")
    teacher = shutil.copy(teacher_file, folder / "teacher.pt")
    return toy.train(folder, *STUDENT, "--kd-teacher", teacher)


def test_a_checkpoint_holds_the_bridge_and_nothing_else_of_the_teacher(student_file, weights):
    names = {name for name in weights(student_file) if ".branches." in name}
    assert names
    assert all(name.startswith(BRIDGE) for name in names)


def test_student_and_bridge_resume_exactly(toy, student_file, teacher_file, tmp_path, weights):
    flags = [*STUDENT, "--kd-teacher", teacher_file]
    toy.train(tmp_path, *flags, updates=2)
    resumed = weights(toy.train(tmp_path, *flags, updates=4))
    for name, value in weights(student_file).items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)


def test_the_student_decodes_without_the_teacher_like_its_export(toy, student_file, tmp_path):
    from tsa_mt.cli import main

    with_teacher = toy.generate(student_file, tmp_path / "with")
    lost = shutil.copy(student_file, tmp_path / "lost.pt")
    state = torch.load(lost, weights_only=False)
    state["cfg"]["model"]["kd_teacher"] = str(tmp_path / "no-such-teacher.pt")
    torch.save(state, lost)
    assert toy.generate(lost, tmp_path / "without") == with_teacher
    assert main(["export", str(lost), str(tmp_path / "out"), "--to", "fairseq"]) == 0
    assert toy.generate(tmp_path / "out" / "model.pt", tmp_path / "exported") == with_teacher


def test_two_teachers_are_one_too_many_for_a_bridge(toy, teacher_file):
    with pytest.raises(ValueError, match="grows its bridge out of one teacher, but .* names 2"):
        build(toy, f"{teacher_file}:{teacher_file}")


def test_a_bridge_longer_than_the_teacher_is_refused(toy, teacher_file):
    with pytest.raises(ValueError, match=r"--kd-bridge-layers is 4, but teacher .* has 3 decoder"):
        build(toy, teacher_file, "--kd-bridge-layers", "4")


def test_training_without_the_teachers_file_is_a_sentence(toy):
    with pytest.raises(FileNotFoundError, match=r"teacher gone\.pt does not exist"):
        build(toy, "gone.pt")


def quiet_teacher(path, folder):
    """A copy of a teacher that has no dropout for its bridge to inherit."""
    state = torch.load(path, weights_only=False)
    for name in ("dropout", "attention_dropout", "activation_dropout"):
        setattr(state["cfg"]["model"], name, 0.0)
    torch.save(state, folder / "quiet.pt")
    return folder / "quiet.pt"


def test_two_processes_equal_one_with_twice_the_batches(toy, teacher_file, tmp_path, root, weights):
    teacher = quiet_teacher(teacher_file, tmp_path)
    port = 20000 + os.getpid() % 20000
    world = [
        *("--ddp-backend", "legacy_ddp", "--distributed-backend", "gloo", "--device-id", 0),
        *("--distributed-world-size", 2, "--distributed-no-spawn"),
        *("--distributed-init-method", f"tcp://127.0.0.1:{port}"),
    ]
    flags = [*STUDENT, "--kd-teacher", teacher, "--dropout", 0, "--optimizer", "sgd", "--lr", 0.1]
    code = """
from tsa_mt import plugin
plugin.register()
from fairseq_cli.train import cli_main
cli_main()
"""
    environment = {**os.environ, "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""}
    settings = {"env": environment, "stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    running = []
    for rank in (0, 1):
        arguments = toy.training_arguments(
            tmp_path / "two", *flags, *world, "--distributed-rank", rank, updates=3
        )
        running.append(subprocess.Popen([sys.executable, "-c", code, *arguments], **settings))
    one = weights(toy.train(tmp_path / "one", *flags, "--update-freq", 2, updates=3))
    for process in running:
        _, error = process.communicate(timeout=200)
        assert process.returncode == 0, error.decode()[-3000:]
    two = weights(tmp_path / "two" / "checkpoint_last.pt")
    start = load_checkpoint_to_cpu(str(teacher))["model"]["decoder.layers.2.fc1.weight"]
    moved = one[f"{BRIDGE}layers.1.fc1.weight"] - start
    assert moved.abs().max() > 1e-4
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5, msg=name)
