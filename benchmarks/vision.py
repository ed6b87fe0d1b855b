"""Image training: what a tree costs beside its plain network, bf16, and the input pipeline.

    python benchmarks/vision.py steps                         # ResNet-32, batches of 128
    python benchmarks/vision.py steps --official TSA=DIR --official OKDDip=DIR
    python benchmarks/vision.py steps --backbone wrn40_1 --teacher wrn40_2     # SOKD as well
    python benchmarks/vision.py precision                     # bf16 channels_last against fp32
    python benchmarks/vision.py input --images DIR            # images per second; DIR has JPEGs

* ``steps``: a training step is forward, loss, backward and the optimizer's step. The yardstick is
  the plain network under PyTorch's own cross-entropy. Each method's step time in terms of it is
  divided by its floating-point operations in terms of it, as ``tsa-mt plan`` counts them: 1 means
  that the tree costs its arithmetic and nothing else. Bar: at most 1.05 on a CPU.
* ``--official NAME=DIR`` runs the step of a paper's own repository, checked out at DIR, in the same
  rounds: its network and its loss. TSA: github.com/Linwenye/Tree-Supervised at ba35668; OKDDip:
  github.com/DefangChen/OKDDip-AAAI2020 at c6a05de.
* ``precision``: step time with ``--bf16-autocast --channels-last`` in terms of float32.
* ``input``: the CIFAR pipeline (whole batches; and, where torchvision can be imported, its
  transforms image by image, in the same rounds), and JPEGs decoded to 224 x 224 training crops.

Times: one process, every candidate once a round, the rounds interleaved; median of the rounds'
ratios, with the smallest and the largest.
"""

import argparse
import importlib.util
import os
import platform
import statistics
import sys
import time
from argparse import Namespace
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import tsa_mt  # noqa: E402
from tsa_mt import plugin  # noqa: E402

plugin.register()

from tsa_mt.branches import TeacherOutputs  # noqa: E402
from tsa_mt.head import branch_head  # noqa: E402
from tsa_mt.objectives import Context  # noqa: E402
from tsa_mt.plan.images import ImageSubject  # noqa: E402
from tsa_mt.plan.report import Setting, costs  # noqa: E402
from tsa_mt.vision.augment import PRESETS, crop_and_flip  # noqa: E402
from tsa_mt.vision.decode import NUMBERS, training_crop  # noqa: E402
from tsa_mt.vision.model import TreeClassifier  # noqa: E402
from tsa_mt.vision.randomness import uniform  # noqa: E402
from tsa_mt.vision.teacher import build_bridge  # noqa: E402

CLASSES = 100
METHODS = {"tsa": "tsa", "okddip": "fork", "one": "fork", "ahbf": "ladder", "dml": "peers"}
BAR = 1.05
TEMPERATURE = 3.0


class Step:
    """A training step that can be repeated.

    Args:
        network: What is trained.
        loss: ``loss(network, images, target)``.
    """

    def __init__(self, network, loss):
        self.network = network.train()
        self.loss = loss
        self.optimizer = torch.optim.SGD(
            network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
        )

    def __call__(self, images, target) -> None:
        """Forward, loss, backward and update."""
        self.optimizer.zero_grad()
        self.loss(self.network, images, target).backward()
        self.optimizer.step()


def build(backbone: str, objective: str, tree: str, **options) -> TreeClassifier:
    """A tree classifier over 100 classes."""
    task = Namespace(num_classes=CLASSES, target_dictionary=None)
    config = Namespace(backbone=backbone, kd_objective=objective, tree=tree, **options)
    return TreeClassifier.build_model(config, task)


def tree_loss(model, images, target, teacher=None):
    """What the criterion computes, divided by the batch's size; ``teacher`` is SOKD's."""
    passed, taught, projections = None, None, model.projections
    if teacher is not None:
        passed = teacher.run({"images": images}, images)
        taught = TeacherOutputs([passed.features], [teacher.projection])
        projections = [*projections, model.bridge_projection]
    outputs = model(images, branches=True, teacher=passed)
    objective, context = model.objective, Context(0.5)
    result = branch_head(objective, outputs, projections, target, context, teachers=taught)
    return result.total / len(target)


def plain_loss(network, images, target):
    """Cross-entropy."""
    return F.cross_entropy(network(images), target)


def timed(candidates, rounds, *arguments):
    """Seconds of every candidate in every round, after a round that warms up."""
    found = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            start = time.perf_counter()
            run(*arguments)
            if number:
                found[name].append(time.perf_counter() - start)
    return found


def spread(values) -> str:
    """Median, smallest and largest of some ratios."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


# --- steps --------------------------------------------------------------------------------------


def official_module(folder: Path, path: str):
    """A module out of somebody else's checkout."""
    spec = importlib.util.spec_from_file_location("official", folder / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def official_tsa(folder: Path) -> Step:
    """ResNet-32's tree with the pairwise loss, as in ``train_tree.py``."""
    module = official_module(folder, "models/resnet_liu.py")
    network = module.TreeCifarResNet_v1(module.BasicBlock, [5, 5, 5], CLASSES)

    def loss(network, images, target):
        outputs = network(images)
        total = torch.zeros(())
        for one in outputs:
            total = total + 0.7 * F.cross_entropy(one, target)
            for other in outputs:
                if other is not one:
                    total = total + 0.3 / 3 * softened_kl(one, other)
        return total

    return Step(network, loss)


def official_okddip(folder: Path) -> Step:
    """ResNet-32 with a group leader, as in ``train_GL.py``, at half of the ramp-up."""
    module = official_module(folder, "models/model_cifar/resnet_GL.py")
    network = module.resnet32(num_classes=CLASSES, num_branches=4)

    def loss(network, images, target):
        peers, mixed, leader = network(images)
        total = F.cross_entropy(leader, target)
        total = total + 0.29 * softened_kl(leader, peers.mean(2))
        for peer in range(peers.shape[2]):
            total = total + F.cross_entropy(peers[:, :, peer], target)
            total = total + 0.29 * softened_kl(peers[:, :, peer], mixed[:, :, peer])
        return total

    return Step(network, loss)


OFFICIAL = {"TSA": ("tsa", official_tsa), "OKDDip": ("okddip", official_okddip)}


def softened_kl(student, teacher):
    """``T^2 KL(teacher || student)``, averaged over the batch, as both repositories compute it."""
    students = F.log_softmax(student / TEMPERATURE, dim=1)
    teachers = F.softmax(teacher / TEMPERATURE, dim=1)
    return F.kl_div(students, teachers, reduction="batchmean") * TEMPERATURE**2


def sokd(backbone: str, teachers: str):
    """SOKD's step with a teacher of another backbone."""
    teacher = build(teachers, "independent", "chain").as_teacher("untrained")
    model = build(backbone, "sokd", "chain")
    model.branches.bridge = build_bridge(teacher, CLASSES, model.objective)
    return Step(model, partial(tree_loss, teacher=teacher))


def arithmetic(backbone: str, objective: str, tree: str, teacher: str = "") -> tuple[float, float]:
    """Trained parameters and operations of an update in terms of the plain network's."""
    options = {"kd_objective": objective, "tree": tree}
    subject = ImageSubject(
        f"tree_{backbone}", options, teacher_arch=teacher and f"tree_{teacher}", batch_size=2
    )
    setting = Setting("cpu", "momentum_sgd")
    own, plain = (costs(s, setting).training for s in (subject, subject.plain()))
    return own.parameters / plain.parameters, own.flops / plain.flops


def report_steps(args) -> None:
    """Step times of all methods in terms of the plain network's, and of the arithmetic's."""
    models = {name: build(args.backbone, name, tree) for name, tree in METHODS.items()}
    first = next(iter(models.values()))
    plain = Step(first.backbone.plain(CLASSES), plain_loss)
    candidates = {"plain": plain, **{n: Step(m, tree_loss) for n, m in models.items()}}
    ratios = {name: arithmetic(args.backbone, name, tree) for name, tree in METHODS.items()}
    if args.teacher:
        candidates["sokd"] = sokd(args.backbone, args.teacher)
        ratios["sokd"] = arithmetic(args.backbone, "sokd", "chain", args.teacher)
    for text in args.official:
        name, _, folder = text.partition("=")
        if name not in OFFICIAL or not Path(folder).is_dir():
            raise SystemExit(
                f"--official {text}: expected NAME=DIR with NAME one of {', '.join(OFFICIAL)} and "
                f"DIR a checkout of its repository"
            )
        candidates[f"official {name}"] = OFFICIAL[name][1](Path(folder))
    size = first.backbone.image_size
    images, target = torch.randn(args.batch, 3, size, size), torch.randint(CLASSES, (args.batch,))
    seconds = timed(candidates, args.rounds, images, target)
    print_steps(args, ratios, seconds)


def print_steps(args, ratios, seconds) -> None:
    """The table of `report_steps`."""
    base, missed = seconds["plain"], False
    print(f"plain {args.backbone}, batch {args.batch}: {statistics.median(base):.3f} s a step\n")
    print("| method | parameters | arithmetic | step time | step time / arithmetic | bar |")
    print("|---|---|---|---|---|---|")
    for name, (parameters, operations) in ratios.items():
        times = [own / plain for own, plain in zip(seconds[name], base)]
        overhead = statistics.median(times) / operations
        verdict = "met" if overhead <= BAR else "MISSED"
        missed |= overhead > BAR
        print(
            f"| {name} | x{parameters:.2f} | x{operations:.2f} | x{spread(times)} | "
            f"{overhead:.2f} | {verdict} |"
        )
    for name in seconds:
        if name.startswith("official "):
            ours = OFFICIAL[name.split()[1]][0]
            found = [theirs / own for theirs, own in zip(seconds[name], seconds[ours])]
            print(f"\n{name}: x{spread(found)} of our {ours} step")
    if missed:
        raise SystemExit(1)


def report_precision(args) -> None:
    """bf16 autocast with channels_last in terms of float32."""
    candidates = {}
    for name, options in (
        ("float32", {}),
        ("channels_last", {"channels_last": True}),
        ("bf16, channels_last", {"channels_last": True, "bf16_autocast": True}),
    ):
        model = build(args.backbone, "tsa", "tsa", **options)
        candidates[name] = Step(model, tree_loss)
    size = model.backbone.image_size
    images, target = torch.randn(args.batch, 3, size, size), torch.randint(CLASSES, (args.batch,))
    seconds = timed(candidates, args.rounds, images, target)
    print("| precision | step time, in terms of float32 |\n|---|---|")
    for name, own in seconds.items():
        print(f"| {name} | x{spread([a / b for a, b in zip(own, seconds['float32'])])} |")


# --- input --------------------------------------------------------------------------------------


def report_input(args) -> None:
    """Images per second of the input pipelines, on one core."""
    pixels = torch.randint(0, 256, (args.count, 3, 32, 32), dtype=torch.uint8)
    candidates = {"whole batches": lambda: batched(pixels, args.batch)}
    transform = torchvision_transform()
    if transform is not None:
        candidates["torchvision, image by image"] = lambda: one_by_one(pixels, transform)
    seconds = timed(candidates, args.rounds)
    print("| CIFAR: crop, flip, normalise | images/s on one core |\n|---|---|")
    for name, own in seconds.items():
        print(f"| {name} | {args.count / statistics.median(own):,.0f} |")
    if args.images:
        report_jpegs(args)


def batched(pixels, batch: int) -> None:
    """An epoch of augmented batches."""
    preset = PRESETS["okddip"]
    normalisation = preset.normalisation_for(CLASSES)
    for start in range(0, len(pixels), batch):
        rows = np.arange(start, min(start + batch, len(pixels)))
        images = crop_and_flip(pixels[torch.from_numpy(rows)], preset, 1, 1, rows)
        normalisation.apply(images)


def torchvision_transform():
    """The same augmentation by torchvision, ``None`` where it is not installed."""
    try:
        transforms = import_transforms()
    except ImportError as error:
        print(f"(torchvision is left out: {error})\n")
        return None
    mean, std = PRESETS["okddip"].normalisation.mean, PRESETS["okddip"].normalisation.std
    steps = [transforms.ToPILImage(), transforms.RandomCrop(32, padding=4)]
    steps += [transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    return transforms.Compose([*steps, transforms.Normalize(mean, std)])


def import_transforms():
    """torchvision's transforms, also beside a torch build that its compiled part does not fit."""
    try:
        from torchvision import transforms
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):  # torchvision annotates them while it is imported
            schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            MISSING_OPERATORS.define(schema)
        from torchvision import transforms
    return transforms


MISSING_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")


def one_by_one(pixels, transform) -> None:
    """An epoch of single images."""
    for image in pixels:
        transform(image)


def report_jpegs(args) -> None:
    """JPEGs decoded and cropped per second."""
    files = sorted(Path(args.images).rglob("*.[jJ][pP]*[gG]"))[: args.count]
    contents = [path.read_bytes() for path in files]
    numbers = uniform(1, 1, np.arange(len(files)), NUMBERS)

    def decode():
        for content, path, own in zip(contents, files, numbers):
            training_crop(content, str(path), 224, own)

    seconds = timed({"decode": decode}, args.rounds)["decode"]
    rate = len(files) / statistics.median(seconds)
    print(f"\n{len(files)} JPEGs to 224 x 224 training crops: {rate:,.0f} images/s on one core")


def main() -> None:
    """Reads the arguments and prints one report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("report", choices=["steps", "precision", "input"])
    parser.add_argument("--backbone", default="resnet32")
    parser.add_argument("--teacher", help="backbone of SOKD's teacher, for the step report")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=10_000, help="images of the input report")
    parser.add_argument("--images", help="folder with JPEG files, for the input report")
    parser.add_argument("--official", action="append", default=[], metavar="NAME=DIR")
    args = parser.parse_args()
    threads = torch.get_num_threads()
    print(
        f"tsa_mt {tsa_mt.__version__}, torch {torch.__version__}, {platform.machine()}, "
        f"{threads} thread{'s' if threads > 1 else ''}, {args.rounds} rounds\n"
    )
    {"steps": report_steps, "precision": report_precision, "input": report_input}[args.report](args)


if __name__ == "__main__":
    main()
