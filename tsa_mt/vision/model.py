"""The fairseq model around a tree-shaped image classifier, and its architectures.

Every backbone ``NAME`` is ``--arch tree_NAME``. They are registered whether or not the packages
that some of them come from are installed; building such a one says what is missing.
"""

import dataclasses
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from fairseq.dataclass import ChoiceEnum
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from tsa_mt.averaged import averaged_weights
from tsa_mt.branches import BranchOutputs, Projection
from tsa_mt.modeling import LearningTree, ObjectiveFields, bridge_teacher, objective_of
from tsa_mt.objectives import Objective, Rows
from tsa_mt.options import default_tree
from tsa_mt.sources import AVERAGED, branch_number
from tsa_mt.teacher import TeacherPass
from tsa_mt.tree import Tree
from tsa_mt.vision.accuracy import accuracy_statistics
from tsa_mt.vision.backbone import BACKBONES, Backbone, find_backbone, run_units
from tsa_mt.vision.classifier import TreeNetwork, TreeRunner, branch_sources, mean_logits
from tsa_mt.vision.fusion import FEATURES, MAPS
from tsa_mt.vision.teacher import ImageTeacher, build_bridge
from tsa_mt.vision.trees import resolve_tree

NAME = "tree_classifier"
BRANCHES = "branches."


@dataclass
class TreeClassifierConfig(ObjectiveFields):
    """Options of ``--arch tree_classifier``: the backbone's, the tree's and the objective's."""

    backbone: str = field(
        default="resnet32", metadata={"help": "plain network; --arch tree_NAME sets it"}
    )
    tree: str = field(
        default="",
        metadata={
            "help": "tree of the backbone's units: a notation such as '5(5(5,5),5(5,5))', or a "
            "preset (chain, tsa, fork, ladder, peers); empty = the objective's own preset"
        },
    )
    branch_projection: ChoiceEnum(["separate", "shared"]) = field(
        default="separate",
        metadata={"help": "whether the leaves have their own classifier or share the leader's"},
    )
    branch_init: ChoiceEnum(["fresh", "copy"]) = field(
        default="fresh",
        metadata={
            "help": "how branches start when a plain network's checkpoint is loaded: newly drawn, "
            "or copied from the leader"
        },
    )
    decode_branch: int = field(
        default=0,
        metadata={
            "help": "which leaf classifies: 0 the leader, k another leaf, -1 the mean of all "
            "logits, -2 the leader of the moving average that pcl and mean_teacher keep"
        },
    )
    bf16_autocast: bool = field(
        default=False,
        metadata={
            "help": "run the network in bfloat16 where that is safe; parameters, BatchNorm "
            "statistics and the loss stay in float32"
        },
    )
    channels_last: bool = field(
        default=False, metadata={"help": "store images and filters channel by channel last: faster"}
    )


@register_model(NAME, dataclass=TreeClassifierConfig)
class TreeClassifier(LearningTree, BaseFairseqModel):
    """A plain image network under its own names, and the branches of a tree under ``branches``.

    Args:
        backbone: The plain network.
        tree: Tree of its units.
        objective: What the leaves learn.
        num_classes: Number of classes.
        config: The other options of `TreeClassifierConfig`.

    Raises:
        ValueError: There is no leaf ``decode_branch``.
    """

    def __init__(
        self,
        backbone: Backbone,
        tree: Tree,
        objective: Callable[["TreeClassifier"], Objective],
        num_classes: int,
        config: Namespace,
    ):
        super().__init__()
        leaves = len(tree.leaves)
        branch = branch_number(config.decode_branch)
        self.decodes_average = branch == AVERAGED
        config.decode_branch = 0 if self.decodes_average else branch
        if not -1 <= config.decode_branch < leaves:
            raise ValueError(
                f"decode_branch is {config.decode_branch}, but tree '{tree}' has leaves 0 to "
                f"{leaves - 1}, and -1 is their mean"
            )
        leader = backbone.build(num_classes, backbone.stages)
        for name, child in leader.network.named_children():
            self.add_module(name, child)
        shared = config.branch_projection == "shared"
        self.branches = TreeNetwork(backbone, tree, num_classes, shared, leader)
        self.runner = TreeRunner(leader, self.branches, tree)
        self.backbone, self.tree, self.config = backbone, tree, config
        self.num_classes = num_classes
        self.branches.objective = objective(self)

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> "TreeClassifier":
        """Builds the model for the classes of a task.

        Raises:
            ValueError: An unknown backbone, a malformed or unfitting tree, objective options out
                of place, or a missing package.
        """
        config = flat_namespace(cfg)
        backbone = find_backbone(config.backbone)
        tree = resolve_tree(config.tree or default_tree(config.kd_objective), backbone)
        model = cls.with_objective(backbone, tree, task.num_classes, config)
        if model.objective.needs_bridge:
            teacher = bridge_teacher(config.kd_teacher, task)
            if teacher is not None:
                bridge = build_bridge(teacher, task.num_classes, model.objective)
                model.branches.bridge = bridge
        return model.to(memory_format=torch.channels_last) if config.channels_last else model

    @classmethod
    def with_objective(
        cls, backbone: Backbone, tree: Tree, num_classes: int, config: Namespace
    ) -> "TreeClassifier":
        """Builds the model with the objective that ``config`` names."""

        def objective(model: "TreeClassifier") -> Objective:
            trunk, last = _widths(model.runner, backbone)
            width = model.runner.leader.feature_dim
            model.runner.fuses_maps = last == width
            return objective_of(
                config,
                tree,
                feature_dim=width,
                num_classes=num_classes,
                trunk_dim=trunk,
                fusion=MAPS if last == width else FEATURES,
                leaf_dims=[p.weight.shape[1] for p in model.runner.projections()],
            )

        model = cls(backbone, tree, objective, num_classes, config)
        model.runner.rescales = model.objective.rescales_shared
        model.keep_average()
        return model

    @property
    def projections(self) -> List[Projection]:
        """The projection of every feature matrix that ``forward(branches=True)`` returns."""
        return self.runner.projections() + self.objective.projections

    @property
    def views(self) -> int:
        """How many augmentations of every image a training batch has: one, or one per leaf."""
        own = getattr(self.objective.config, "own_augmentation", False)
        return len(self.tree.leaves) if own else 1

    def as_teacher(self, path: str) -> ImageTeacher:
        """The leader as a frozen teacher; the model must not be used otherwise afterwards."""
        return ImageTeacher(self, path)

    def drop_branches(self) -> None:
        """Frees everything but the leader."""
        self.branches.drop()

    def forward(
        self,
        images: Tensor,
        branches: bool = False,
        teacher: Optional[TeacherPass] = None,
        more_views: Sequence[Tensor] = (),
        alter: Optional[Callable[[Tensor], Tensor]] = None,
    ):
        """Classifies images.

        Args:
            images: ``(batch, 3, height, width)``, normalised.
            branches: Whether to run every node of the tree.
            teacher: What a bridge reads; its features come last.
            more_views: Other augmentations of the images, one for each leaf but the leader, for
                objectives whose leaves see their own.
            alter: Changes images before anything reads them.

        Returns:
            Logits ``(batch, classes)`` of the leaf (or the mean) that ``decode_branch`` names; with
            ``branches`` a `BranchOutputs` whose features are ``(batch, dim)``.
        """
        if alter is not None:
            images, *more_views = (alter(view) for view in (images, *more_views))
        if self.config.channels_last:
            images, *more_views = (
                view.contiguous(memory_format=torch.channels_last) for view in (images, *more_views)
            )
        with torch.autocast(
            images.device.type, dtype=torch.bfloat16, enabled=self.config.bf16_autocast
        ):
            if not branches:
                return self._logits(images).float()
            return self._branch_outputs(images, teacher, more_views)

    def _logits(self, images: Tensor) -> Tensor:
        branch = self.config.decode_branch
        if branch == 0:
            return self.runner.leader_logits(images)
        outputs = self.runner.outputs(images)
        if branch < 0:
            return mean_logits(self.runner, outputs)
        projection = self.runner.projections()[branch]
        return torch.nn.functional.linear(
            outputs.features[branch], projection.weight, projection.bias
        )

    def _branch_outputs(
        self, images: Tensor, teacher: Optional[TeacherPass], more_views: Sequence[Tensor]
    ) -> BranchOutputs:
        outputs = self.runner.outputs(images, more_views)
        if self.objective.needs_bridge:
            outputs.features.append(self.branches.bridge(teacher.hidden))
        return self.objective.fuse(outputs)

    def statistics(self, rows: Rows) -> Dict[str, Tensor]:
        """Correct predictions of every leaf and of their ensemble, for the criterion to log."""
        logits = rows.logits()[: self.objective.leaves]
        return accuracy_statistics(logits, rows.targets, len(self.tree.leaves))

    def upgrade_state_dict_named(self, state_dict: Dict[str, Tensor], name: str) -> None:
        """Lets a plain network's state dict load: its missing branches are filled in."""
        if self.decodes_average:
            state_dict.update(averaged_weights(state_dict, "the checkpoint"))
        super().upgrade_state_dict_named(state_dict, name)
        self._check_classes(state_dict)
        self.drop_idle_bridge(state_dict)
        if any(key.startswith(BRANCHES) for key in state_dict):
            return
        own = self.state_dict(keep_vars=True)
        names = {id(tensor): key for key, tensor in own.items()}
        sources = branch_sources(self.runner.leader, self.branches, self.tree)
        for key, tensor in own.items():
            if key.startswith(BRANCHES):
                source = sources.get(id(tensor)) if self.config.branch_init == "copy" else None
                start = tensor if source is None else state_dict[names[id(source)]]
                state_dict[key] = start.detach().clone()

    def _check_classes(self, state_dict: Dict[str, Tensor]) -> None:
        classifier = self.runner.leader.classifier.weight
        name = next(n for n, parameter in self.named_parameters() if parameter is classifier)
        if name in state_dict and len(state_dict[name]) != self.num_classes:
            raise ValueError(
                f"the checkpoint tells {len(state_dict[name])} classes apart, but the data have "
                f"{self.num_classes}; use the data it was trained on"
            )

    def prepare_for_inference_(self, cfg: Any) -> None:
        """Nothing to prepare: classifying runs the leader alone."""


def _widths(runner: TreeRunner, backbone: Backbone) -> Tuple[int, int]:
    """Channels of the map at the end of the root, and of the map that is pooled."""
    leader = runner.leader
    leader.network.eval()
    with torch.no_grad():
        images = leader.stem(torch.zeros(1, 3, backbone.image_size, backbone.image_size))
        root = runner.tree.nodes[0].stop
        trunk = run_units(leader.units[:root], images)
        last = leader.top(run_units(leader.units[root:], trunk))
    leader.network.train()
    return trunk.shape[1], last.shape[1]


def flat_namespace(cfg: Any) -> Namespace:
    """A model config of any kind as a plain namespace with every field present."""
    if isinstance(cfg, DictConfig):
        values = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    else:
        values = dict(vars(cfg))
    defaults = TreeClassifierConfig()
    for option in dataclasses.fields(TreeClassifierConfig):
        default = getattr(defaults, option.name)
        values.setdefault(option.name, getattr(default, "value", default))
    return Namespace(**{name: getattr(value, "value", value) for name, value in values.items()})


def _architecture(backbone: str) -> Callable[[Namespace], None]:
    def architecture(args: Namespace) -> None:
        args.backbone = backbone

    return architecture


for _backbone in BACKBONES:
    register_model_architecture(NAME, f"tree_{_backbone}")(_architecture(_backbone))
