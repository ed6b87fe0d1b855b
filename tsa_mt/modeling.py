"""What text and image models do alike: their objective's options, average and bridge."""

import dataclasses
import os
from argparse import Namespace
from typing import Any, ClassVar, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.models import MODEL_DATACLASS_REGISTRY
from hydra.core.config_store import ConfigStore
from torch import Tensor, nn

from tsa_mt.averaged import Averaged
from tsa_mt.branches import Projection, TeacherOutputs
from tsa_mt.objectives import Objective, build_objective
from tsa_mt.objectives.registry import LISTENERS
from tsa_mt.options import chosen_options, objective_fields
from tsa_mt.sources import AVERAGED, parse_sources
from tsa_mt.teacher import load_teacher
from tsa_mt.tree import Tree

ObjectiveFields: Any = dataclasses.make_dataclass(
    "ObjectiveFields", objective_fields(), bases=(FairseqDataclass,)
)
"""``kd_objective`` and every objective's options; the configs of models derive from it."""


def take_new_fields() -> None:
    """Gives every model's config the options of objectives that were registered after it.

    fairseq reads a config's fields from the class for its parser, and from its store of configs for
    what the parser read.
    """
    fresh = dataclasses.make_dataclass("Fresh", objective_fields())
    stored = {n: c for n, c in MODEL_DATACLASS_REGISTRY.items() if issubclass(c, ObjectiveFields)}
    for config in (ObjectiveFields, *stored.values()):
        for field in dataclasses.fields(fresh):
            config.__dataclass_fields__[field.name] = field
            config.__annotations__[field.name] = field.type
            setattr(config, field.name, field.default)
    for name, config in stored.items():
        node = config()
        node._name = name
        ConfigStore.instance().store(name=name, group="model", node=node, provider="fairseq")


LISTENERS.append(take_new_fields)


def objective_of(
    args: Namespace, tree: Tree, feature_dim: int, num_classes: int, **more: Any
) -> Objective:
    """The objective that a model's flat options ask for; arguments as of `build_objective`.

    Raises:
        ValueError: An unknown objective, or options out of place.
    """
    options = chosen_options(args)
    return build_objective(args.kd_objective, tree, feature_dim, num_classes, **more, **options)


class LearningTree(nn.Module):
    """A model whose leaves learn together; stands before fairseq's class among the bases.

    Attributes:
        branches_at: Path of the module that holds what a method adds.
        num_updates: Number of updates done.
        decodes_average: Whether the averaged leader stands in the leader's place once weights are
            loaded.
    """

    branches_at: ClassVar[str] = "branches"
    num_updates: int = 0
    decodes_average: bool = False

    @property
    def objective(self) -> Objective:
        """The leaves' objective; its trainable parts live under the branches."""
        return self._grown("objective")

    @property
    def averaged(self) -> Optional[Averaged]:
        """The averaged copy of the model, for an objective that it teaches."""
        return self._grown("averaged")

    @property
    def bridge_projection(self) -> Optional[Projection]:
        """The bridge's own projection; ``None`` where it ends in its teacher's."""
        return getattr(self._grown("bridge"), "projection", None)

    def _grown(self, name: str) -> Any:
        return getattr(self.get_submodule(self.branches_at), name, None)

    def keep_average(self) -> None:
        """Starts the averaged copy of the complete model, where the objective asks for one.

        Raises:
            ValueError: The averaged leader is to decode, but the objective asks for none.
        """
        decay = self.objective.average_decay
        if decay is None and self.decodes_average:
            raise ValueError(
                f"decode_branch {AVERAGED} is the averaged leader, but objective "
                f"'{self.objective.name}' keeps no moving average; take a leaf's number or -1, "
                f"their ensemble"
            )
        if decay is not None:
            self.get_submodule(self.branches_at).averaged = Averaged(self, decay)

    def averaged_teachers(self, net_input: dict[str, Tensor]) -> TeacherOutputs:
        """Features of the averaged leaves for a batch; to be called before `forward`."""
        averaged = self.averaged
        assert averaged is not None, "the objective asks for no average"
        return averaged.teach(self, net_input)

    def set_num_updates(self, num_updates: int) -> None:
        """Remembers the number of updates, which ramp-ups and averages are measured in."""
        super().set_num_updates(num_updates)  # type: ignore[misc]  # fairseq's class comes next
        self.num_updates = num_updates
        if self.averaged is not None:
            self.averaged.follow(self, num_updates)

    def drop_idle_bridge(self, state_dict: dict[str, Tensor]) -> None:
        """Removes a bridge's entries, in place, where the model was built without its teacher."""
        if self._grown("bridge") is None:
            prefix = f"{self.branches_at}.bridge."
            for key in [key for key in state_dict if key.startswith(prefix)]:
                del state_dict[key]


def bridge_teacher(paths: Optional[str], task: Any) -> Any:
    """The teacher that a bridge grows out of; ``None`` where it is not at hand.

    Args:
        paths: ``--kd-teacher``.
        task: The student's task.

    Raises:
        ValueError: Several teachers.
    """
    teachers = parse_sources(paths or "")
    if len(teachers) > 1:
        raise ValueError(
            f"objective 'sokd' grows its bridge out of one teacher, but --kd-teacher names "
            f"{len(teachers)}: {', '.join(map(str, teachers))}"
        )
    if not teachers or not os.path.isfile(teachers[0].path):
        return None
    if teachers[0].branch not in (0, AVERAGED):
        raise ValueError(
            f"objective 'sokd' grows its bridge out of a leader, but --kd-teacher names "
            f"{teachers[0]}; leave the branch out, or take ':averaged'"
        )
    return load_teacher(str(teachers[0]), task)
