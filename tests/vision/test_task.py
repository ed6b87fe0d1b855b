"""The task, its data sets, the optimizer and the schedule."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from fairseq.optim.lr_scheduler import LR_SCHEDULER_REGISTRY
from image_data import CLASSES, TEST, TRAIN, encoded

from tsa_mt.criterion import OnlineKDCriterion
from tsa_mt.vision.dataset import MemoryDataset, hold_out
from tsa_mt.vision.optimizer import MomentumSGD, MomentumSGDConfig
from tsa_mt.vision.schedule import Multistep, MultistepConfig
from tsa_mt.vision.task import ImageClassificationTask


@pytest.fixture
def task(cifar):
    """Makes the task over the small CIFAR-10, with options changed."""

    def task(**changed):
        options = {
            "data": str(cifar.folder),
            "valid_split": 20,
            "augment": "",
            "image_size": None,
            "skip_broken_images": False,
            "num_classes": None,
            "accept_any_md5": True,
            "seed": 3,
            "fp16": False,
            "bf16": False,
            "valid_subset": "valid",
            "disable_validation": False,
            "validate_ema": False,
            "store_ema": False,
        }
        return ImageClassificationTask.setup_task(Namespace(**{**options, **changed}))

    return task


def loaded(task, split):
    task.load_dataset(split)
    return task.dataset(split)


def test_the_criterion_of_text_and_of_images_is_the_same_object(task):
    from fairseq.criterions import CRITERION_REGISTRY

    assert CRITERION_REGISTRY["online_kd"] is OnlineKDCriterion
    criterion = OnlineKDCriterion(task(), sentence_avg=False, max_update=0, kd_objective="tsa")
    assert criterion.padding_idx == -100  # label 1, text's padding, is a class like any other


def test_training_and_validation_images_are_disjoint_and_make_up_the_training_part(task):
    task = task()
    train, valid = loaded(task, "train"), loaded(task, "valid")
    assert (len(train), len(valid)) == (80, 20)
    assert sorted([*train.rows, *valid.rows]) == list(range(TRAIN))
    assert np.bincount(valid.labels[valid.rows]).tolist() == [2] * CLASSES
    assert len(loaded(task, "test")) == TEST


def test_the_held_out_images_do_not_depend_on_the_seed(task):
    first, second = (loaded(task(seed=seed), "valid").rows for seed in (1, 2))
    assert np.array_equal(first, second)


def test_a_split_that_does_not_divide_takes_one_more_of_the_first_classes():
    labels = np.repeat(np.arange(3), 10)
    assert np.bincount(labels[hold_out(labels, 8, 3)]).tolist() == [3, 3, 2]


def test_a_split_larger_than_a_class_is_refused():
    with pytest.raises(ValueError, match="asks for 10 images of class 0, which has 10"):
        hold_out(np.repeat(np.arange(3), 10), 30, 3)


def test_a_batch_has_normalised_images_labels_and_counts(task):
    dataset = loaded(task(augment="tsa"), "test")
    batch = dataset.collater([dataset[i] for i in (4, 7)])
    images = batch["net_input"]["images"]
    assert images.shape == (2, 3, 32, 32)
    assert batch["target"].tolist() == [4, 7]
    assert batch["id"].tolist() == [4, 7]
    assert (batch["ntokens"], batch["nsentences"]) == (2, 2)
    red = dataset.pixels[4, 0].double() / 255
    torch.testing.assert_close(images[0, 0].double(), (red - 0.4914) / 0.2023, atol=1e-5, rtol=1e-5)
    assert dataset.collater([]) == {}


def test_validation_images_keep_their_order_and_are_not_augmented(task):
    dataset = loaded(task(), "valid")
    assert dataset.ordered_indices().tolist() == list(range(20))
    assert dataset.can_reuse_epoch_itr_across_epochs
    first = dataset.collater([dataset[0]])["net_input"]["images"]
    dataset.set_epoch(2)
    assert torch.equal(dataset.collater([dataset[0]])["net_input"]["images"], first)


def batches(task, dataset, epoch):
    iterator = task.get_batch_iterator(
        dataset, max_sentences=16, required_batch_size_multiple=8, seed=3, epoch=epoch
    )
    return [batch["id"].tolist() for batch in iterator.next_epoch_itr(shuffle=True)]


def test_batches_are_composed_anew_in_every_epoch_and_leave_no_image_out(task):
    task = task(valid_split=30)
    dataset = loaded(task, "train")
    epochs = [batches(task, dataset, epoch) for epoch in (1, 2)]
    for epoch in epochs:
        assert sorted(sum(epoch, [])) == sorted(dataset.rows)
        assert sorted(map(len, epoch)) == [6, 16, 16, 16, 16]  # the last batch, no multiple of 8
    together = [{frozenset(batch) for batch in epoch} for epoch in epochs]
    assert not together[0] & together[1]
    assert batches(task, dataset, 1) == epochs[0]


def test_what_happens_to_an_image_depends_on_seed_epoch_and_number_alone(task):
    dataset = loaded(task(), "train")
    again = loaded(task(), "train")
    other_seed = loaded(task(seed=4), "train")

    def image(data, epoch, company):
        data.set_epoch(epoch)
        rows = [data[i] for i in (*company, 5)]
        return data.collater(rows)["net_input"]["images"][-1]

    reference = image(dataset, 2, (1, 2))
    assert torch.equal(image(again, 2, (7,)), reference)
    assert not torch.equal(image(dataset, 3, (1, 2)), reference)
    assert not torch.equal(image(other_seed, 2, (1, 2)), reference)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"fp16": True},
            "--fp16 would keep BatchNorm statistics in half precision; use --bf16-a",
        ),
        ({"bf16": True}, "--bf16 would keep BatchNorm statistics in half precision"),
        ({"valid_subset": "test"}, "checkpoints would be chosen on the test part"),
        ({"augment": "cutout"}, "unknown augmentation 'cutout'"),
        ({"valid_split": -1}, "--valid-split is -1; it must be 0 or more"),
        ({"image_size": 0}, "--image-size is 0; it must be at least 1"),
        ({"validate_ema": True}, "--validate-ema needs averaged weights; add --store-ema"),
    ],
)
def test_options_out_of_place_are_told_before_any_data_are_read(options, message, task):
    with pytest.raises(ValueError, match=message):
        task(data="nowhere", **options)


def test_a_file_instead_of_its_folder_is_told(task, cifar):
    path = cifar.folder / "cifar-10-batches-py" / "test_batch"
    with pytest.raises(ValueError, match="test_batch is a file; give the folder that holds it"):
        task(data=str(path))


def test_the_test_part_may_be_watched_beside_the_held_out_one(task):
    assert task(valid_subset="valid,test")
    assert task(valid_subset="test", disable_validation=True)


def test_nothing_held_out_leaves_nothing_to_validate_on(task):
    with pytest.raises(ValueError, match="--valid-split 0 leaves nothing to validate on"):
        task(valid_split=0).load_dataset("valid")
    assert len(loaded(task(valid_split=0), "train")) == TRAIN


def test_an_unknown_split_is_told(task):
    with pytest.raises(ValueError, match="unknown split 'dev'; choose one of train, valid, test"):
        task().load_dataset("dev")


def test_a_number_of_classes_that_is_not_the_datas_is_told(task):
    with pytest.raises(ValueError, match="has 10 classes, but --num-classes says 100"):
        task(num_classes=100).num_classes  # noqa: B018


def test_data_with_another_number_of_classes_than_the_checkpoint_are_told(task):
    restored = task()
    restored.load_state_dict({"class_names": ["a", "b"]})
    assert restored.num_classes == 2
    with pytest.raises(ValueError, match="has 10 classes, but the checkpoint has 2"):
        restored.load_dataset("test")


def test_large_images_are_decoded_and_cropped_per_image(task, tmp_path):
    pytest.importorskip("PIL", reason="decoding images needs Pillow")
    draw = np.random.default_rng(1)
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(3):
                pixels = draw.integers(0, 256, (3, 90, 120)).astype(np.uint8)
                (tmp_path / part / name / f"{number}.jpg").write_bytes(encoded(pixels, "JPEG"))
    large = task(data=str(tmp_path), valid_split=2, image_size=70)
    train, test = loaded(large, "train"), loaded(large, "test")
    assert large.normalisation.mean == (0.485, 0.456, 0.406)
    assert not isinstance(train, MemoryDataset)
    batch = train.collater([train[0], train[1]])
    assert batch["net_input"]["images"].shape == (2, 3, 70, 70)
    assert torch.equal(train[0][1], train[0][1])
    before = train[0][1]
    train.set_epoch(2)
    assert not torch.equal(train[0][1], before)
    assert torch.equal(test[0][1], test[0][1])
    train.views = 2
    several = train.collater([train[0], train[1]])["net_input"]
    train.views = 1
    single = train.collater([train[0], train[1]])["net_input"]
    assert torch.equal(several["images"], single["images"])
    assert list(single) == ["images"]
    (other,) = several["more_views"]
    assert other.shape == (2, 3, 70, 70)
    assert not torch.equal(other, several["images"])
    assert large.image_size == 70


def test_a_large_image_that_is_broken_stops_or_leaves_its_batch(task, tmp_path, caplog):
    pytest.importorskip("PIL", reason="decoding images needs Pillow")
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(2):
                pixels = np.full((3, 90, 90), 40 * number, np.uint8)
                (tmp_path / part / name / f"{number}.png").write_bytes(encoded(pixels))
    (tmp_path / "val" / "bee" / "0.png").write_bytes(b"")
    test = loaded(task(data=str(tmp_path), valid_split=0), "test")
    with pytest.raises(ValueError, match="val/bee/0.png is not a .*--skip-broken-images"):
        test[2]
    test = loaded(task(data=str(tmp_path), valid_split=0, skip_broken_images=True), "test")
    batch = test.collater([test[number] for number in range(4)])
    assert batch["target"].tolist() == [0, 0, 1]
    assert "val/bee/0.png is not a readable image" in caplog.text


def test_small_stored_images_are_decoded_once_and_kept_in_memory(task, tmp_path):
    pytest.importorskip("PIL", reason="decoding images needs Pillow")
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3, 24, 24)).astype(np.uint8)
    for part in ("train", "val"):
        for label, name in enumerate(("ant", "bee")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(2):
                content = encoded(pixels[2 * label + number])
                (tmp_path / part / name / f"{number}.png").write_bytes(content)
    small = task(data=str(tmp_path), valid_split=2)
    dataset = loaded(small, "test")
    assert isinstance(dataset, MemoryDataset)
    assert np.array_equal(dataset.pixels.numpy(), pixels)


# --- optimizer and schedule ---------------------------------------------------------------------


def sgd(model, **options):
    values = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "no_decay_norms": False}
    return MomentumSGD(Namespace(**{**values, "lr": [0.5], **options}), model.parameters())


def test_momentum_sgd_steps_like_the_published_optimizer():
    torch.manual_seed(1)
    model, twin = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    ours = sgd(model)
    theirs = torch.optim.SGD(
        twin.parameters(), lr=0.5, momentum=0.9, nesterov=True, weight_decay=0.1
    )
    for number in range(3):
        for network, optimizer in ((model, ours), (twin, theirs)):
            optimizer.zero_grad()
            network(torch.full((1, 3), float(number))).square().sum().backward()
            optimizer.step()
    assert torch.equal(model.weight, twin.weight)
    assert torch.equal(model.bias, twin.bias)


def test_no_decay_norms_spares_vectors_and_the_rate_still_reaches_both_groups():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = sgd(model, no_decay_norms=True)
    decay = [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
    assert decay == [(1, 0.1), (3, 0.0)]
    optimizer.set_lr(0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
    assert len(sgd(model).param_groups) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, "--momentum is 1.0; it must be in \\[0, 1\\)"),
        ({"weight_decay": -1.0}, "--weight-decay is -1.0; it must be 0 or more"),
        ({"momentum": 0.0}, "--nesterov needs --momentum greater than 0"),
    ],
)
def test_options_that_make_no_optimizer_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        sgd(torch.nn.Linear(1, 1), **options)


def test_the_defaults_are_the_papers():
    config = MomentumSGDConfig()
    assert (config.momentum, config.weight_decay) == (0.9, 5e-4)
    assert MultistepConfig().milestones == [150, 225]
    assert LR_SCHEDULER_REGISTRY["multistep"] is Multistep


def test_the_rate_drops_after_each_milestone_like_torchs_scheduler():
    optimizer = sgd(torch.nn.Linear(1, 1), lr=[0.1])
    config = Namespace(milestones=[3, 5], lr_decay=0.1, lr=[0.1])
    schedule = Multistep(config, optimizer)
    ours = [schedule.step_begin_epoch(epoch) for epoch in range(1, 8)]
    reference = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.1)
    torchs = torch.optim.lr_scheduler.MultiStepLR(reference, [3, 5], gamma=0.1)
    expected = []
    for _ in range(7):
        expected.append(reference.param_groups[0]["lr"])
        reference.step()
        torchs.step()
    assert ours == pytest.approx(expected)


@pytest.mark.parametrize("milestones", [[5, 3], [0, 3], [3, 3]])
def test_milestones_must_increase(milestones):
    with pytest.raises(ValueError, match="must be increasing epoch numbers from 1 on"):
        Multistep(
            Namespace(milestones=milestones, lr_decay=0.1, lr=[0.1]), sgd(torch.nn.Linear(1, 1))
        )


def test_the_decay_must_be_a_share():
    with pytest.raises(ValueError, match="--lr-decay is 2.0; it must be greater than 0, at most 1"):
        Multistep(Namespace(milestones=[3], lr_decay=2.0, lr=[0.1]), sgd(torch.nn.Linear(1, 1)))
