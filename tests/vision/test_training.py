"""fairseq-train on images: resume, last batch, statistics, metrics, averages, teachers, tools."""

import json
import logging
import re

import numpy as np
import pytest
import torch
from image_data import Data, encoded

from tsa_mt.cli import main as tsa_mt
from tsa_mt.vision.accuracy import accuracy_statistics
from tsa_mt.vision.checkpoint import read_classifier
from tsa_mt.vision.classifier import TreeRunner
from tsa_mt.vision.collection import open_collection

TINY = ("--kd-objective", "tsa", "--tree", "6(3,3)")


def same(first, second):
    return all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.fixture(scope="module")
def trained(cifar, tmp_path_factory):
    """A tree trained for two epochs, with averaged weights."""
    save = tmp_path_factory.mktemp("trained")
    ema = ("--store-ema", "--ema-decay", "0.7", "--validate-ema")
    best = ("--best-checkpoint-metric", "accuracy", "--maximize-best-checkpoint-metric")
    cifar.train(save, *TINY, "--max-epoch", 2, *best, *ema)
    return save


def test_a_resumed_training_equals_an_uninterrupted_one(cifar, tmp_path):
    common = (*TINY, "--disable-validation", "--max-epoch", 2)
    whole = cifar.train(tmp_path / "whole", *common)
    for updates in (3, 7):  # within the first epoch, within the second
        cifar.train(tmp_path / "parts", *common, "--max-update", updates)
    parts = cifar.train(tmp_path / "parts", *common)
    assert same(whole["model"], parts["model"])
    momentum = [c["last_optimizer_state"]["state"][0]["momentum_buffer"] for c in (whole, parts)]
    assert torch.equal(*momentum)


def test_an_image_tree_under_a_stock_criterion_is_refused(cifar, tmp_path):
    with pytest.raises(ValueError, match="CrossEntropyCriterion trains only the leader of tree"):
        cifar.train(tmp_path, *TINY, "--criterion", "cross_entropy", "--max-update", 1)


def test_a_tree_learns_to_tell_the_classes_apart(cifar, tmp_path):
    cifar.train(tmp_path, *TINY, "--max-epoch", 10, "--milestones", "8", "--disable-validation")
    trained = read_classifier(tmp_path / "checkpoint_last.pt")
    test = open_collection(str(cifar.folder), accept_any_md5=True).load("test")
    for branch in (0, 1, -1):
        right = trained.logits(test.pixels, branch).argmax(-1).numpy() == test.labels
        assert right.mean() > 0.5  # chance is 0.1


def test_pcl_trains_every_leaf_on_its_own_augmentation_and_validates_on_one(
    cifar, tmp_path, monkeypatch
):
    original, seen = TreeRunner.outputs, []

    def outputs(runner, images, more_views=()):
        seen.append((runner.leader.units[0].training, images, list(more_views)))
        return original(runner, images, more_views)

    monkeypatch.setattr(TreeRunner, "outputs", outputs)
    flags = ("--kd-objective", "pcl", "--tree", "6(3,3)", "--kd-rampup-updates", 2)
    cifar.train(tmp_path, *flags, "--max-epoch", 1)
    several = [(training, images, more[0]) for training, images, more in seen if more]
    assert [training for training, *_ in several] == [False, True] * 5  # the average, the model
    for (_, *taught), (_, *learning) in zip(several[::2], several[1::2]):
        assert all(map(torch.equal, taught, learning))
        assert not torch.equal(*learning)
    assert seen[-1][2] == []  # validation


def test_a_plain_checkpoint_starts_a_tree(cifar, tmp_path):
    common = ("--max-update", 1, "--disable-validation", "--lr", 0)  # nothing moves but statistics
    plain = ("--kd-objective", "independent", "--tree", "chain")
    first = cifar.train(tmp_path / "plain", *plain, *common)["model"]
    start = ("--finetune-from-model", tmp_path / "plain" / "checkpoint_last.pt")
    tree = cifar.train(tmp_path / "tree", *TINY, "--branch-init", "copy", *start, *common)["model"]
    assert torch.equal(tree["layer3.2.conv2.weight"], first["layer3.2.conv2.weight"])
    assert torch.equal(tree["branches.nodes.2.2.conv2.weight"], first["layer3.2.conv2.weight"])


def test_decoding_workers_change_nothing(cifar, tmp_path):
    common = (*TINY, "--disable-validation", "--max-update", 4)
    alone = cifar.train(tmp_path / "alone", *common)
    helped = cifar.train(tmp_path / "helped", *common, "--num-workers", 2)
    assert same(alone["model"], helped["model"])


def test_every_image_is_trained_on_and_validated_although_the_last_batch_is_small(
    cifar, tmp_path, monkeypatch
):
    from tsa_mt.vision.task import ImageClassificationTask

    seen = {"train_step": 0, "valid_step": 0}
    for name in seen:
        original = getattr(ImageClassificationTask, name)

        def step(self, sample, *args, _name=name, _original=original, **options):
            seen[_name] += sample["nsentences"]
            return _original(self, sample, *args, **options)

        monkeypatch.setattr(ImageClassificationTask, name, step)
    cifar.train(
        tmp_path, *TINY, "--max-epoch", 1, "--valid-split", 23, "--valid-subset", "valid,test"
    )
    assert seen == {"train_step": 77, "valid_step": 23 + 30}


def test_large_images_are_decoded_by_workers_that_change_nothing(tmp_path):
    draw = np.random.default_rng(1)
    for part, count in (("train", 6), ("val", 2)):
        for name in ("ant", "bee"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (3, 90, 120)).astype(np.uint8)
                path = tmp_path / "data" / part / name / f"{number}.jpg"
                path.write_bytes(encoded(pixels, "JPEG"))
    flags = ("--valid-split", 2, "--image-size", 72, "--batch-size", 4, "--max-epoch", 1)
    data = Data(tmp_path / "data")
    alone = data.train(tmp_path / "alone", *TINY, *flags)
    helped = data.train(tmp_path / "helped", *TINY, *flags, "--num-workers", 2)
    assert same(alone["model"], helped["model"])
    assert alone["task_state"]["class_names"] == ["ant", "bee"]
    assert alone["task_state"]["image_size"] == 72


def test_fairseq_validate_sees_every_test_image(trained, cifar, monkeypatch):
    from fairseq import options
    from fairseq_cli import validate

    from tsa_mt.vision.task import ImageClassificationTask

    outputs = []
    original = ImageClassificationTask.valid_step

    def valid_step(self, *arguments, **options):
        result = original(self, *arguments, **options)
        outputs.append(result[2])
        return result

    monkeypatch.setattr(ImageClassificationTask, "valid_step", valid_step)
    path = trained / "checkpoint_last.pt"
    command = [cifar.folder, "--task", "image_classification", "--path", path, "--cpu"]
    command += ["--valid-subset", "test", "--batch-size", 16, "--num-workers", 0]
    parser = options.get_validation_parser()
    validate.main(options.parse_args_and_arch(parser, [str(part) for part in command]))
    test = open_collection(str(cifar.folder), accept_any_md5=True).load("test")
    right = read_classifier(path).logits(test.pixels).argmax(-1).numpy() == test.labels
    assert sum(output["nsentences"] for output in outputs) == 30
    assert sum(int(output["n_correct"]) for output in outputs) == right.sum()


def test_batchnorm_statistics_are_saved_in_float32_and_move(trained):
    weights = torch.load(trained / "checkpoint_last.pt", weights_only=False)["model"]
    statistics = [key for key in weights if "running_" in key]
    assert any(key.startswith("branches.") for key in statistics)
    for key in statistics:
        assert weights[key].dtype == torch.float32
        start = torch.zeros(1) if key.endswith("mean") else torch.ones(1)
        assert not torch.equal(weights[key], start.expand_as(weights[key]))
    assert weights["bn1.num_batches_tracked"] == 10  # two epochs of five updates


def test_averaged_weights_are_kept_restored_and_validated(trained, cifar, caplog):
    checkpoint = torch.load(trained / "checkpoint_last.pt", weights_only=False)
    average, latest = checkpoint["extra_state"]["ema"], checkpoint["model"]
    assert not torch.equal(average["conv1.weight"], latest["conv1.weight"])
    assert average["bn1.num_batches_tracked"] == latest["bn1.num_batches_tracked"]
    accuracy = {ema: held_out_accuracy(trained, cifar, ema) for ema in (False, True)}
    last = checkpoint["extra_state"]["val_loss"]  # the chosen metric: accuracy
    assert last == pytest.approx(accuracy[True], abs=1e-3)


def held_out_accuracy(save, cifar, ema):
    """Accuracy on the held-out images, computed without fairseq's validation."""
    from argparse import Namespace

    from tsa_mt.vision.task import ImageClassificationTask

    options = {"data": str(cifar.folder), "valid_split": 20, "augment": "", "image_size": None}
    options |= {"num_classes": None, "accept_any_md5": True, "seed": 3}
    task = ImageClassificationTask(Namespace(**options))
    task.load_dataset("valid")
    rows, part = task.dataset("valid").rows, task._part("train")
    logits = read_classifier(save / "checkpoint_last.pt", ema).logits(part.pixels[rows])
    return 100 * (logits.argmax(-1).numpy() == part.labels[rows]).mean()


def test_the_best_checkpoint_is_chosen_by_the_leaders_accuracy_on_held_out_images(trained):
    best = torch.load(trained / "checkpoint_best.pt", weights_only=False)
    last = torch.load(trained / "checkpoint_last.pt", weights_only=False)
    assert best["cfg"]["checkpoint"]["best_checkpoint_metric"] == "accuracy"
    assert best["extra_state"]["val_loss"] >= last["extra_state"]["val_loss"]
    assert last["extra_state"]["best"] == best["extra_state"]["val_loss"]


NAMES = ["accuracy", "accuracy_top5", "accuracy_ensemble", "accuracy_ensemble_top5"]
NAMES += [f"accuracy_b{leaf}{top}" for leaf in (0, 1) for top in ("", "_top5")]


def test_validation_logs_every_accuracy_under_its_fixed_name(cifar, tmp_path):
    log = tmp_path / "log.txt"
    logger = logging.getLogger("fairseq.logging.progress_bar")
    handler = logging.FileHandler(log)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        cifar.train(tmp_path / "save", *TINY, "--max-update", 2, "--log-format", "json")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"valid_loss"' in line]
    values = {name: float(lines[-1][f"valid_{name}"]) for name in NAMES}
    assert values["accuracy"] == values["accuracy_b0"]
    assert values["accuracy_top5"] == values["accuracy_b0_top5"]
    assert all(0 <= value <= 100 and value % 5 == 0 for value in values.values())  # of 20 images


def test_accuracies_count_leaves_and_the_mean_of_their_logits():
    logits = torch.zeros(2, 3, 7)
    logits[0, :, 6] = 1.0  # leaf 0 always says 6
    logits[1, :, 5] = 3.0  # leaf 1, more certain, says 5
    counts = accuracy_statistics(logits, torch.tensor([6, 5, 6]), leaves=2)
    assert int(counts["correct_b0"]) == 2
    assert int(counts["correct_b1"]) == 1
    assert int(counts["correct_ensemble"]) == 1
    assert int(counts["correct_ensemble_top5"]) == int(counts["correct_top5"]) == 3


def test_a_bridge_is_counted_by_its_own_name_and_not_in_the_ensemble():
    logits = torch.zeros(2, 1, 3)
    logits[0, :, 0], logits[1, :, 2] = 1.0, 5.0
    counts = accuracy_statistics(logits, torch.tensor([0]), leaves=1)
    assert {"correct_b0", "correct_bridge", "correct_ensemble"} <= set(counts)
    assert (int(counts["correct_ensemble"]), int(counts["correct_bridge"])) == (1, 0)


def test_with_five_or_fewer_classes_everything_is_among_the_top_five():
    counts = accuracy_statistics(torch.randn(1, 4, 3), torch.tensor([0, 1, 2, 2]), leaves=1)
    assert int(counts["correct_top5"]) == 4


@pytest.mark.parametrize("objective", ["kd", "sokd"])
def test_a_frozen_image_network_teaches_and_stays_out_of_the_checkpoint(
    objective, trained, cifar, tmp_path
):
    teacher = trained / "checkpoint_last.pt"
    before = teacher.read_bytes()
    flags = ("--kd-objective", objective, "--kd-teacher", teacher, "--max-update", 2)
    checkpoint = cifar.train(tmp_path, *flags, "--disable-validation")
    outside = {key.split(".")[1] for key in checkpoint["model"] if key.startswith("branches.")}
    assert outside == ({"bridge"} if objective == "sokd" else set())
    assert teacher.read_bytes() == before
    teacher.rename(teacher.with_suffix(".away"))
    try:
        student = read_classifier(tmp_path / "checkpoint_last.pt")  # needs no teacher any more
    finally:
        teacher.with_suffix(".away").rename(teacher)
    assert student.logits(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 10)


def test_the_bridge_starts_as_the_teachers_last_stage_and_reads_its_maps(trained, build):
    import copy

    path = str(trained / "checkpoint_last.pt")
    student = build(kd_objective="sokd", kd_teacher=path).eval()
    teacher = read_classifier(path).model.as_teacher(path)
    images = torch.randn(2, 3, 32, 32)
    passed = teacher.run({"images": images}, student.conv1.weight)
    outputs = student(images, branches=True, teacher=passed)
    logits = torch.nn.functional.linear(
        outputs.features[1], student.bridge_projection.weight, student.bridge_projection.bias
    )
    expected = torch.nn.functional.linear(
        passed.features, teacher.projection.weight, teacher.projection.bias
    )
    torch.testing.assert_close(logits, expected)
    assert student.branches.bridge.start == 6
    assert not any(p.requires_grad for p in copy.copy(teacher.model).parameters())


def test_a_teacher_for_other_classes_is_told(trained, build):
    path = str(trained / "checkpoint_last.pt")
    with pytest.raises(ValueError, match="tells 10 classes apart, but the data have 7"):
        build(classes=7, kd_objective="sokd", kd_teacher=path)


# --- tools --------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(np.full((3, 40, 50), 90, dtype=np.uint8)))
    return path


def test_classify_prints_the_most_probable_classes(trained, picture, capsys):
    assert (
        tsa_mt(["classify", str(trained / "checkpoint_last.pt"), str(picture), "--top", "3"]) == 0
    )
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == str(picture)
    found = [re.fullmatch(r" +([\d.]+) %  kind\d", line) for line in lines]
    shares = [float(match[1]) for match in found]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.pt", "PICTURE"], "checkpoint absent.pt does not exist"),
        (["CKPT", "absent.png"], "image absent.png does not exist"),
        (["PICTURE", "PICTURE"], "picture.png is no readable checkpoint"),
        (["CKPT", "CKPT"], "checkpoint_last.pt is not a readable image"),
        (["CKPT", "PICTURE", "--branch", "2"], "branch 2 does not exist: tree '6(3,3)' has leaves"),
        (["CKPT", "PICTURE", "--top", "0"], "--top is 0; it must be at least 1"),
    ],
)
def test_classify_tells_what_is_wrong_in_one_sentence(arguments, message, trained, picture, capsys):
    known = {"CKPT": str(trained / "checkpoint_last.pt"), "PICTURE": str(picture)}
    assert tsa_mt(["classify", *(known.get(each, each) for each in arguments)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("branch", [0, 1])
def test_the_exported_state_dict_loads_into_the_plain_network(branch, ema, trained, tmp_path):
    from tsa_mt.vision import find_backbone

    checkpoint = str(trained / "checkpoint_last.pt")
    flags = ["--to", "state_dict", "--branch", str(branch), *(["--ema"] if ema else [])]
    assert tsa_mt(["export", checkpoint, str(tmp_path / "out"), *flags]) == 0
    network = find_backbone("resnet20").plain(10).eval()
    network.load_state_dict(torch.load(tmp_path / "out" / "model.pt", weights_only=True))
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    trained_model = read_classifier(checkpoint, ema)
    with torch.no_grad():
        logits = network(trained_model.normalisation.apply(pixels))
    torch.testing.assert_close(logits, trained_model.logits(pixels, branch))
    preparation = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    assert preparation["class_names"] == [f"kind{n}" for n in range(10)]
    assert preparation["image_size"] == 32


def test_the_exported_program_gives_the_models_logits_for_any_batch(trained, tmp_path):
    checkpoint = str(trained / "checkpoint_last.pt")
    assert tsa_mt(["export", checkpoint, str(tmp_path / "out"), "--to", "torchscript"]) == 0
    program = torch.jit.load(tmp_path / "out" / "model.ts")
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    classifier = read_classifier(checkpoint)
    with torch.no_grad():
        logits = program(classifier.normalisation.apply(pixels))
    torch.testing.assert_close(logits, classifier.logits(pixels))


def test_the_exported_onnx_graph_gives_the_models_logits_for_any_batch(trained, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    checkpoint = str(trained / "checkpoint_last.pt")
    assert tsa_mt(["export", checkpoint, str(tmp_path / "out"), "--to", "onnx"]) == 0
    session = runtime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    classifier = read_classifier(checkpoint)
    images = classifier.normalisation.apply(pixels).numpy()
    logits = torch.from_numpy(session.run(None, {"images": images})[0])
    torch.testing.assert_close(logits, classifier.logits(pixels), atol=1e-4, rtol=1e-4)


def test_without_onnx_the_export_says_what_to_install(trained, tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    checkpoint = str(trained / "checkpoint_last.pt")
    assert tsa_mt(["export", checkpoint, str(tmp_path / "out"), "--to", "onnx"]) == 1
    assert "--to onnx needs the package onnx" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_exporting_a_leaf_that_does_not_exist_is_told(trained, tmp_path, capsys):
    checkpoint = str(trained / "checkpoint_last.pt")
    flags = ["--to", "state_dict", "--branch", "5"]
    assert tsa_mt(["export", checkpoint, str(tmp_path / "out"), *flags]) == 1
    assert "branch 5 does not exist: tree '6(3,3)' has leaves 0 to 1" in capsys.readouterr().err


def test_averaged_weights_that_were_not_kept_are_told(cifar, tmp_path, capsys):
    cifar.train(tmp_path, *TINY, "--max-update", 1, "--disable-validation")
    checkpoint = str(tmp_path / "checkpoint_last.pt")
    flags = ["--to", "state_dict", "--ema"]
    assert tsa_mt(["export", checkpoint, str(tmp_path / "out"), *flags]) == 1
    assert "has no averaged weights; train with --store-ema" in capsys.readouterr().err


def test_a_checkpoint_of_another_task_is_told(tmp_path, capsys):
    path = tmp_path / "text.pt"
    torch.save({"model": {}, "cfg": {"task": {"_name": "translation"}}}, path)
    assert tsa_mt(["export", str(path), str(tmp_path / "out"), "--to", "state_dict"]) == 1
    assert "was not trained with --task image_classification" in capsys.readouterr().err


def test_training_goes_on_from_data_with_other_classes_only_after_a_sentence(cifar, build):
    model = build(classes=7)
    with pytest.raises(ValueError, match="tells 10 classes apart, but the data have 7"):
        model.load_state_dict(build(classes=10).state_dict())
