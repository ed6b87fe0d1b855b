"""An image classifier to plan: a batch of images of one size."""

from argparse import Namespace
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Dict, Optional

import torch
from fairseq.models import ARCH_CONFIG_REGISTRY
from torch import Tensor, nn

from tsa_mt.criterion import OnlineKDCriterion
from tsa_mt.options import default_tree
from tsa_mt.plan.subject import Subject, of_leader
from tsa_mt.tree import Tree
from tsa_mt.vision.backbone import find_backbone
from tsa_mt.vision.model import TreeClassifier, flat_namespace
from tsa_mt.vision.teacher import ImageTeacher, build_bridge
from tsa_mt.vision.trees import resolve_tree


@dataclass(frozen=True)
class ImageSubject(Subject):
    """A tree classifier and images; see `Subject`.

    Attributes:
        classes: Number of classes.
        batch_size: Images per batch.
        image_size: Side of the images in pixels; unset, that of the backbone's paper.
    """

    unit = "image"
    input_name = "image"

    classes: int = 100
    batch_size: int = 128
    image_size: Optional[int] = None

    @property
    def rows(self) -> int:
        """Images in a batch."""
        return self.batch_size

    @property
    def batch_text(self) -> str:
        """See `Subject.batch_text`."""
        return f"{self.side} x {self.side} pixels, {self.classes} classes"

    @property
    def targets(self) -> int:
        """One prediction an image."""
        return 1

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        return self.image_size or find_backbone(self._config().backbone).image_size

    def task(self) -> Any:
        """Number of classes, and no dictionary."""
        return SimpleNamespace(num_classes=self.classes, target_dictionary=None)

    @property
    def tree(self) -> Tree:
        """See `Subject.tree`."""
        config = flat_namespace(self._config())
        backbone = find_backbone(config.backbone)
        return resolve_tree(config.tree or default_tree(config.kd_objective), backbone)

    def _config(self) -> Namespace:
        args = Namespace(arch=self.arch, **self.options)
        ARCH_CONFIG_REGISTRY[self.arch](args)
        return args

    def model(self) -> nn.Module:
        """The model, newly built."""
        return TreeClassifier.build_model(self._config(), self.task())

    def teach(self, model: Any, criterion: OnlineKDCriterion) -> None:
        """See `Subject.teach`."""
        teacher = ImageTeacher(self.teacher().model(), "a plain network")
        criterion.teachers = [teacher]
        if model.objective.needs_bridge:
            model.branches.bridge = build_bridge(teacher, self.classes, model.objective)

    def batch(self, model: Any) -> Dict[str, Any]:
        """Images, in as many augmentations as the model's objective wants, and their classes."""
        images, *others = (self._images(self.batch_size) for _ in range(model.views))
        return {
            "net_input": {"images": images, **({"more_views": others} if others else {})},
            "target": torch.randint(0, self.classes, (self.batch_size,)),
            "ntokens": self.batch_size,
        }

    def single(self) -> Dict[str, Tensor]:
        """One image."""
        return {"images": self._images(1)}

    def _images(self, count: int) -> Tensor:
        return torch.zeros(count, 3, self.side, self.side)

    def deployed_bytes(self, model: nn.Module) -> Dict[str, int]:
        """Size of the exported state dict; there is no int8 export of images."""
        own = [tensor for _, tensor in of_leader(model.state_dict().items())]
        return {"fp32": sum(tensor.numel() * tensor.element_size() for tensor in own)}
