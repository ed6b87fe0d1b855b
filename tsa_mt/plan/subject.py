"""What is planned: a model that can be built again and again, a criterion, and batches."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Dict, Iterable, Iterator, List, Optional, Tuple

from torch import Tensor, nn

from tsa_mt.criterion import OnlineKDCriterion
from tsa_mt.tree import Tree

PLAIN = {"kd_objective": "independent", "tree": "chain"}
TREE_OPTIONS = ("tree", "peer_encoders", "branch_projection", "branch_init")


@dataclass(frozen=True)
class Subject:
    """A model and what it is trained on; kinds of models derive from it.

    Attributes:
        unit: What is predicted.
        input_name: What the network gets.
        arch: Name of a registered architecture.
        options: Model options by name; what is left out is the architecture's.
        chunk_rows: ``--kd-chunk-rows``.
        teacher_arch: Architecture of the frozen teacher of an objective that needs one; unset, the
            plain network of the same one.
    """

    unit: ClassVar[str]
    input_name: ClassVar[str]

    arch: str
    options: Dict[str, Any]
    chunk_rows: Optional[int] = None
    teacher_arch: str = ""

    @property
    def rows(self) -> int:
        """Predictions to learn from in a batch."""
        raise NotImplementedError

    @property
    def targets(self) -> int:
        """Predictions to make for one input: the pieces of a sentence, or one."""
        raise NotImplementedError

    @property
    def batch_text(self) -> str:
        """A batch in a few words."""
        raise NotImplementedError

    @property
    def tree(self) -> Tree:
        """The tree that the options ask for.

        Raises:
            ValueError: It is malformed, or does not fit the architecture.
        """
        raise NotImplementedError

    def model(self) -> nn.Module:
        """The model, newly built."""
        raise NotImplementedError

    def batch(self, model: Any) -> Dict[str, Any]:
        """A batch as the task's datasets make them for a model, without padding."""
        raise NotImplementedError

    def single(self) -> Dict[str, Tensor]:
        """What the model's forward takes for one sentence pair, or one image."""
        raise NotImplementedError

    def deployed_bytes(self, model: nn.Module) -> Dict[str, int]:
        """Sizes of the exported leader of a model, by type of its numbers."""
        raise NotImplementedError

    def teach(self, model: Any, criterion: OnlineKDCriterion) -> None:
        """Gives the criterion a frozen teacher, and the model the bridge that grows out of it."""
        raise NotImplementedError

    def plain(self) -> "Subject":
        """The plain network of the same architecture, trained on the same data."""
        kept = {
            name: value
            for name, value in self.options.items()
            if name not in TREE_OPTIONS and not name.startswith("kd_")
        }
        return replace(self, options={**kept, **PLAIN})

    def teacher(self) -> "Subject":
        """The plain network that teaches."""
        if not self.teacher_arch:
            return self.plain()
        return replace(self, arch=self.teacher_arch, options=PLAIN)

    def criterion(self, model: Any) -> OnlineKDCriterion:
        """The criterion, ready to train the model."""
        criterion = OnlineKDCriterion(
            self.task(),
            sentence_avg=False,
            max_update=1,
            label_smoothing=0.1,
            kd_chunk_rows=self.chunk_rows,
            kd_objective="independent",  # what it is needs no loading; the model has the objective
        )
        if model.objective.needs_teacher:
            self.teach(model, criterion)
        return criterion.train()

    def task(self) -> Any:
        """What a model and the criterion ask of a task."""
        raise NotImplementedError


def trained(model: nn.Module) -> List[nn.Parameter]:
    """The parameters that an optimizer gets."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def of_leader(named: Iterable[Tuple[str, Any]]) -> Iterator[Tuple[str, Any]]:
    """The parameters, modules or entries of a tree model that its leader has."""
    return (pair for pair in named if "branches" not in pair[0].split("."))
