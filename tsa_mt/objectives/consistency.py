"""Several noisy passes over one batch that agree with each other, around any objective.

The one place that knows about passes. A wrapper derives from `Consistency` and is registered with
the option that switches it on, which every objective has (a field of `ObjectiveConfig`)::

    @register_consistency("rdrop_weight")
    class DropoutAgreement(Consistency):
        def terms(self, rows):
            ...

`wrapped` derives a class from the wrapper and from the objective's class, so that ``super()`` is
the objective, and its trainable parts keep their names in checkpoints.

In training the batch goes through the network once, repeated `Consistency.passes` times. The head
then sees ``passes * leaves`` leaves: those of pass 1, then those of pass 2. Without noise all
passes are alike, so evaluation runs one and counts it as often.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from tsa_mt.branches import BranchOutputs
from tsa_mt.objectives import standalone
from tsa_mt.objectives.base import Objective
from tsa_mt.objectives.config import ObjectiveConfig
from tsa_mt.objectives.rows import LossTerms, Rows


class Consistency(Objective):
    """Base class of wrappers; `terms` is theirs to define.

    Attributes:
        passes: How often a batch goes through the network in training.
        taught_passes: How many of them, from the first, have a task loss.
        alters: Whether `altered` changes what a pass reads.
        cuts_words: Whether it needs words, which images have none of.
    """

    passes: ClassVar[int] = 2
    taught_passes: ClassVar[int] = 2
    alters: ClassVar[bool] = False
    cuts_words: ClassVar[bool] = False

    def altered(self, inputs: Tensor, number: int, fixed: Tensor | None = None) -> Tensor:
        """What pass ``number`` reads instead of the network's input; in training only.

        Args:
            inputs: Text: embeddings ``(batch, length, dim)``, once for the source and once for the
                target. Images: ``(batch, 3, height, width)``.
            number: Of the pass, from 0.
            fixed: Text: ``(batch, length)``, true at end marks, which are not words.
        """
        return inputs

    def repeated(self, net_input: Mapping[str, Any]) -> dict[str, Any]:
        """What the model's forward gets: the batch once for every pass, one after another."""
        inputs = {name: _repeat(value, self.passes) for name, value in net_input.items()}
        return {**inputs, "alter": self._alter} if self.alters else inputs

    def _alter(self, inputs: Tensor, fixed: Tensor | None = None) -> Tensor:
        marks = [None] * self.passes if fixed is None else fixed.chunk(self.passes)
        parts = zip(inputs.chunk(self.passes), range(self.passes), marks, strict=True)
        return torch.cat([self.altered(*part) for part in parts])

    def fuse(self, outputs: BranchOutputs) -> BranchOutputs:
        """The objective's `Objective.fuse` of every pass, side by side."""
        parts = _split(outputs, self.passes) if self.training else [outputs] * self.passes
        return self._fuse_each(parts)

    def _fuse_each(self, parts: list[BranchOutputs]) -> BranchOutputs:
        fuse = super().fuse
        return _side_by_side([fuse(part) for part in parts])

    def passed(self, rows: Rows, number: int) -> Rows:
        """The rows of one pass, as the wrapped objective knows them."""
        size = rows.leaves // self.passes
        gates = {name: gate[..., number] for name, gate in rows.gates.items()}
        return rows.part(slice(number * size, (number + 1) * size), gates)

    def by_pass(self, values: Tensor) -> Tensor:
        """What all leaves of all passes have, as ``(passes, leaves, ...)`` without extra leaves."""
        apart: Tensor = values.unflatten(0, (self.passes, -1))
        return apart[:, : self.leaves]

    def forward(
        self,
        logits: Sequence[Tensor],
        target: Tensor,
        features: Sequence[Tensor] | None = None,
        progress: float = 1.0,
        teacher_logits: Sequence[Tensor] | None = None,
        trunk: Tensor | None = None,
    ) -> LossTerms:
        """The standalone call; see `standalone.evaluate`."""
        more = (features, progress, teacher_logits, trunk, self.passes, self._fuse_each)
        return standalone.evaluate(self, logits, target, *more)


CONSISTENCIES: dict[str, type[Consistency]] = {}

Wrapper = TypeVar("Wrapper", bound=type[Consistency])


def register_consistency(option: str) -> Callable[[Wrapper], Wrapper]:
    """Class decorator: the wrapper is used where ``option`` of an objective is not zero."""

    def register(cls: Wrapper) -> Wrapper:
        CONSISTENCIES[option] = cls
        return cls

    return register


def wrapped(cls: type[Objective], config: ObjectiveConfig) -> type[Objective]:
    """The class of an objective with these options: itself, or several passes of it.

    Raises:
        ValueError: The objective cannot be wrapped, or several wrappers are asked for.
    """
    asked = [option for option in CONSISTENCIES if getattr(config, option)]
    if not asked:
        return cls
    if cls.needs_bridge:
        raise ValueError(
            f"objective {cls.name!r} has no {asked[0]!r}, got {getattr(config, asked[0])}: the "
            f"bridge reads one pass of the teacher"
        )
    if len(asked) > 1:
        raise ValueError(
            f"options {' and '.join(map(repr, asked))} exclude each other; set one of them"
        )
    wrapper = CONSISTENCIES[asked[0]]
    return type(f"{wrapper.__name__}Of{cls.__name__}", (wrapper, cls), {})


def passes_of(objective: Objective) -> int:
    """How many passes the features that `Objective.fuse` returns belong to."""
    return objective.passes if isinstance(objective, Consistency) else 1


def inputs_of(objective: Objective, net_input: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a model's forward gets for a batch: itself, or in training every pass of it."""
    if isinstance(objective, Consistency) and objective.training:
        return objective.repeated(net_input)
    return net_input


def check_noise(objective: Objective, model: nn.Module) -> None:
    """Refuses passes that nothing tells apart: they would only cost time.

    Raises:
        ValueError: The wrapper alters no input, and the model drops nothing; or it cuts words, and
            the model reads images.
    """
    if not isinstance(objective, Consistency):
        return
    asked = " ".join(option for option in CONSISTENCIES if getattr(objective.config, option))
    if objective.cuts_words and not hasattr(model, "decoder"):
        raise ValueError(f"option {asked!r} cuts words, and images have none; leave it out")
    chances = [getattr(module, "p", None) for module in model.modules()]
    noisy = any(isinstance(chance, float) and chance > 0 for chance in chances)
    if not (noisy or objective.alters):
        raise ValueError(
            f"option {asked!r} of objective {objective.name!r} lets passes agree that nothing "
            f"tells apart: the network has no dropout; give --dropout 0.1 or more, or set "
            f"--kd-{asked.replace('_', '-')} 0"
        )


def _repeat(value: Any, times: int) -> Any:
    """A batch of tensors several times, one after another."""
    if isinstance(value, Tensor):
        return torch.cat([value] * times)
    if isinstance(value, (list, tuple)):
        return [_repeat(each, times) for each in value]
    return value


def _split(outputs: BranchOutputs, passes: int) -> list[BranchOutputs]:
    """Takes a batch that holds several passes one after another apart."""
    features = [feature.chunk(passes) for feature in outputs.features]
    maps = [each.chunk(passes) for each in outputs.maps or ()]
    trunks = [None] * passes if outputs.trunk is None else outputs.trunk.chunk(passes)
    return [
        BranchOutputs(
            [chunks[number] for chunks in features],
            trunk=trunks[number],
            maps=[chunks[number] for chunks in maps] or None,
        )
        for number in range(passes)
    ]


def _side_by_side(passes: list[BranchOutputs]) -> BranchOutputs:
    """One `BranchOutputs`: features of pass 1, then of pass 2; gates along a new last dimension."""
    return BranchOutputs(
        features=[feature for outputs in passes for feature in outputs.features],
        gates={
            name: torch.stack([outputs.gates[name] for outputs in passes], dim=-1)
            for name in passes[0].gates
        },
    )
