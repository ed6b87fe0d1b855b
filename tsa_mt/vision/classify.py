"""``tsa-mt classify``: what a trained classifier sees in images."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from tsa_mt.sources import AVERAGED, branch_number
from tsa_mt.vision.checkpoint import TrainedClassifier, read_classifier
from tsa_mt.vision.decode import centre_crop, plain_image
from tsa_mt.vision.image_size import SMALL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("checkpoint", metavar="CKPT", help="a checkpoint of an image classifier")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files")
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="classes shown (default: 5)"
    )
    parser.add_argument(
        "--branch",
        type=branch_number,
        default=0,
        metavar="K",
        help="leaf that classifies: 0 the leader (default), -1 the mean of all leaves, 'averaged' "
        "the leader of the moving average that pcl and mean_teacher keep",
    )
    parser.add_argument(
        "--ema", action="store_true", help="use the averaged weights of --store-ema"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the most probable classes of every image.

    Raises:
        FileNotFoundError: The checkpoint or an image does not exist.
        ValueError: One of them cannot be read, or there is no such branch.
    """
    if args.top < 1:
        raise ValueError(f"--top is {args.top}; it must be at least 1")
    averaged = args.branch == AVERAGED
    trained = read_classifier(args.checkpoint, args.ema, averaged)
    pixels = [_pixels(path, trained.image_size) for path in args.images]
    for path, image in zip(args.images, pixels):
        probabilities = trained.logits(image[None], 0 if averaged else args.branch).softmax(-1)[0]
        _show(path, probabilities, trained, args.top)
    return 0


def _pixels(path: str, size: int) -> Tensor:
    """An image prepared as the validation images were."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"image {path} does not exist")
    content = Path(path).read_bytes()
    return (plain_image if size <= SMALL else centre_crop)(content, path, size)


def _show(path: str, probabilities: Tensor, trained: TrainedClassifier, top: int) -> None:
    print(path)
    best = torch.topk(probabilities, min(top, len(probabilities)))
    for probability, label in zip(best.values.tolist(), best.indices.tolist()):
        print(f"  {100 * probability:6.2f} %  {trained.class_names[label]}")
