"""Frozen image teachers, and the bridge that SOKD grows out of one.

SOKD's bridge is what the teacher does after its second-last stage (the last stage, its norm and a
classifier of its own), trained along with the student; it reads the teacher's map there. Code:
https://github.com/swlzq/Semi-Online-KD (``models/wrn.py`` at de7b598).
"""

from typing import Any, List, Mapping

import torch
from torch import Tensor, nn

from tsa_mt.branches import Projection
from tsa_mt.objectives.sokd import SOKD
from tsa_mt.teacher import TeacherPass
from tsa_mt.vision.backbone import Pieces, run_units
from tsa_mt.vision.classifier import projection_of

BRIDGE = "branches.bridge."


class ImageTeacher:
    """A frozen image network; of a tree only the leader is kept.

    Args:
        model: A `tsa_mt.vision.model.TreeClassifier`.
        path: Where it came from, for messages.
    """

    def __init__(self, model: Any, path: str):
        model.drop_branches()
        self.path = path
        self.model = model.eval().requires_grad_(False)

    @property
    def pieces(self) -> Pieces:
        """The network, taken apart."""
        return self.model.runner.leader

    @property
    def projection(self) -> Projection:
        """The map from its features to logits."""
        return projection_of(self.pieces.classifier)

    def run(self, net_input: Mapping[str, Tensor], like: Tensor) -> TeacherPass:
        """Runs the teacher over a batch.

        Args:
            net_input: ``images``.
            like: A parameter of the student; the teacher moves to its device and type.

        Returns:
            Features ``(batch, dim)`` and the map before the first and after every unit.
        """
        if self.projection.weight.device != like.device:
            self.model.to(device=like.device)
        with torch.no_grad():
            maps = [self.pieces.stem(net_input["images"])]
            for unit in self.pieces.units:
                maps.append(unit(maps[-1]))
            features = self.pieces.pool(self.pieces.top(maps[-1]))
        return TeacherPass(features.float(), maps, {})


class ImageBridge(nn.Module):
    """The end of a network of the teacher's kind.

    Args:
        pieces: A network of that kind, whose end is taken.
        start: Units that the teacher keeps for itself.
    """

    def __init__(self, pieces: Pieces, start: int):
        super().__init__()
        self.start = start
        self.units = nn.ModuleList(pieces.units[start:])
        self.top = pieces.top
        self.pool = pieces.pool
        self.classifier = pieces.classifier

    @property
    def projection(self) -> Projection:
        """Its own classifier."""
        return projection_of(self.classifier)

    def forward(self, hidden: List[Tensor]) -> Tensor:
        """Continues the teacher's maps; see `TeacherPass.hidden`.

        Returns:
            ``(batch, dim)`` features.
        """
        return self.pool(self.top(run_units(self.units, hidden[self.start]))).float()


def build_bridge(teacher: ImageTeacher, num_classes: int, objective: SOKD) -> ImageBridge:
    """Builds the end of a network of the teacher's kind; copies its weights if asked to.

    Raises:
        ValueError: The bridge would be longer than the teacher.
    """
    backbone = teacher.model.backbone
    count = objective.bridge_layers or backbone.stages[-1]
    if count > backbone.depth:
        raise ValueError(
            f"--kd-bridge-layers is {count}, but teacher {teacher.path} has {backbone.depth} units"
        )
    fresh = backbone.build(num_classes, backbone.stages)
    if objective.bridge_init == "teacher":
        fresh.network.load_state_dict(teacher.pieces.network.state_dict())
    return ImageBridge(fresh, backbone.depth - count)
