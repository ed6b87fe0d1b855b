"""An image classifier out of a checkpoint, ready to use, without its data."""

import pickle
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

import torch
from torch import Tensor, nn

from tsa_mt import checksum
from tsa_mt.averaged import averaged_weights
from tsa_mt.compat import allowing, checkpoint_classes
from tsa_mt.options import default_tree
from tsa_mt.tree import Tree
from tsa_mt.vision.augment import Normalisation
from tsa_mt.vision.backbone import find_backbone
from tsa_mt.vision.classifier import mean_logits
from tsa_mt.vision.model import TreeClassifier, flat_namespace
from tsa_mt.vision.trees import resolve_tree

SETTLED = {"kd_teacher": None, "decode_branch": 0, "bf16_autocast": False, "channels_last": False}
"""Options of training that must not act again."""
TASK = "image_classification"


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """A trained model and what it needs to know about images.

    Attributes:
        model: The whole tree, in evaluation mode.
        class_names: Name of every class.
        image_size: Side of the images it sees, in pixels.
        normalisation: What their pixels are normalised with.
        updates: Number of updates it was trained for.
    """

    model: TreeClassifier
    class_names: List[str]
    image_size: int
    normalisation: Normalisation
    updates: int

    def logits(self, pixels: Tensor, branch: int = 0) -> Tensor:
        """Classifies images.

        Args:
            pixels: ``(batch, 3, size, size)`` uint8.
            branch: Leaf; 0 is the leader, -1 the mean of all leaves.

        Returns:
            Logits ``(batch, classes)``.

        Raises:
            ValueError: There is no such leaf.
        """
        check_branch(branch, self.model.tree, ensemble=True)
        images = self.normalisation.apply(pixels)
        with torch.no_grad():
            if branch == 0:
                return self.model(images)
            outputs = self.model.runner.outputs(images)
            if branch == -1:
                return mean_logits(self.model.runner, outputs)
            projection = self.model.runner.projections()[branch]
            return nn.functional.linear(
                outputs.features[branch], projection.weight, projection.bias
            )


def check_branch(branch: int, tree: Tree, ensemble: bool = False) -> None:
    """Refuses leaves that a tree does not have.

    Raises:
        ValueError: Names the leaves there are.
    """
    leaves = len(tree.leaves)
    if not (0 <= branch < leaves or (ensemble and branch == -1)):
        mean = ", and -1 is the mean of all" if ensemble else ""
        raise ValueError(
            f"branch {branch} does not exist: tree '{tree}' has leaves 0 to {leaves - 1}, 0 being "
            f"the leader{mean}"
        )


def is_image_checkpoint(checkpoint: Dict[str, Any]) -> bool:
    """Whether a checkpoint's task is image classification."""
    task = (checkpoint.get("cfg") or {}).get("task") or {}
    name = task.get("_name") if isinstance(task, dict) else getattr(task, "_name", None)
    return name == TASK


def read_classifier(path: str, ema: bool = False, averaged: bool = False) -> TrainedClassifier:
    """Reads a checkpoint of `fairseq-train --task image_classification`.

    Args:
        path: The checkpoint.
        ema: Whether to take the averaged weights of ``--store-ema``.
        averaged: Whether to take the moving average that the objective keeps.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedCheckpoint: It loads, and a part of it does not match its checksum.
        ValueError: It is damaged, of another task, or has no averaged weights.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    try:
        with allowing(checkpoint_classes()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise ValueError(f"{path} is no readable checkpoint ({reason})") from error
    checksum.check(path)
    return to_classifier(checkpoint, path, ema, averaged)


def to_classifier(
    checkpoint: Dict[str, Any], path: str, ema: bool = False, averaged: bool = False
) -> TrainedClassifier:
    """Builds the classifier that a loaded checkpoint describes.

    Args:
        checkpoint: The checkpoint's dictionary.
        path: Where it came from, for messages.
        ema: Whether to take the averaged weights of ``--store-ema``.
        averaged: Whether to take the moving average that the objective keeps.

    Raises:
        ValueError: It is of another task, or has no averaged weights.
    """
    if not is_image_checkpoint(checkpoint):
        raise ValueError(
            f"{path} was not trained with --task {TASK}; only image classifiers can classify images"
        )
    weights = checkpoint["extra_state"].get("ema") if ema else checkpoint["model"]
    if weights is None:
        raise ValueError(f"{path} has no averaged weights; train with --store-ema to have them")
    state = checkpoint["task_state"]
    model = _build(dict(checkpoint["cfg"]["model"]), len(state["class_names"]))
    model.load_state_dict(averaged_weights(weights, path) if averaged else dict(weights))
    history = checkpoint.get("optimizer_history") or [{}]
    return TrainedClassifier(
        model=model.eval(),
        class_names=list(state["class_names"]),
        image_size=int(state["image_size"]),
        normalisation=Normalisation(tuple(state["mean"]), tuple(state["std"])),
        updates=int(history[-1].get("num_updates", 0)),
    )


def _build(options: Dict[str, Any], classes: int) -> TreeClassifier:
    config = flat_namespace(Namespace(**{**options, **SETTLED}))
    backbone = find_backbone(config.backbone)
    tree = resolve_tree(config.tree or default_tree(config.kd_objective), backbone)
    return TreeClassifier.with_objective(backbone, tree, classes, config)


def plain_network(trained: TrainedClassifier, branch: int = 0) -> nn.Module:
    """One leaf as the plain network, which needs nothing of a tree.

    Args:
        trained: The classifier.
        branch: Leaf; 0 is the leader.

    Returns:
        The backbone's plain network (with longer stages for a branch deeper than the leader).

    Raises:
        ValueError: There is no such leaf.
    """
    model = trained.model
    check_branch(branch, model.tree)
    path = model.tree.paths[branch]
    stages = model.backbone.stages_for(path[-1].start, path[-1].stop)
    pieces = model.backbone.build(model.num_classes, stages)
    for part, source in zip(_parts(pieces), model.runner.parts(branch)):
        part.load_state_dict(source.state_dict())
    return pieces.network.eval()


def _parts(pieces) -> List[nn.Module]:
    return [pieces.stem, *pieces.units, pieces.top, pieces.pool, pieces.classifier]
