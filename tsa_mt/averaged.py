"""A moving average of a whole model, whose leaves teach the leaves of the model itself.

The average is a set of buffers under the model's ``branches``: it is in checkpoints, gets no
gradient and no optimizer state. It moves once per update, however many micro-batches an update has,
and counts in a buffer how far it is, so that a resumed training goes on exactly.
"""

import re
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import torch
from torch import Tensor, nn

from tsa_mt.branches import Projection, TeacherOutputs

LEFT_OUT = (".branches.objective.", ".branches.averaged.")
"""The objective's own parameters do not run in the averaged model."""


HOLDER = re.compile(r"(?:.+\.)?branches\.averaged\.(?P<name>.+)")
"""Names of averages in a checkpoint, of text and image models."""


def keeps_average(weights: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint's weights hold a moving average."""
    return any(HOLDER.fullmatch(name) for name in weights)


def averaged_weights(weights: Mapping[str, Tensor], what: str) -> Dict[str, Tensor]:
    """A checkpoint's weights with every one replaced by its moving average.

    Args:
        weights: Of a model that keeps an average.
        what: Where they come from, for the message.

    Raises:
        ValueError: There is no average.
    """
    found = {match["name"]: weights[match[0]] for match in map(HOLDER.fullmatch, weights) if match}
    averages = {name: found[name].to(weights[name].dtype) for name in found if name in weights}
    if not averages:
        raise ValueError(
            f"{what} keeps no moving average, so it has no branch 'averaged'; the objectives pcl "
            f"and mean_teacher keep one"
        )
    return {**weights, **_of_tied(weights, averages), **averages}


def _of_tied(weights: Mapping[str, Tensor], averages: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """Averages of what is one parameter with another name's: an average has the first name only."""
    left = [
        name
        for name, weight in weights.items()
        if weight.is_floating_point() and name not in averages and "branches." not in name
    ]
    return {
        name: average
        for name in left
        for other, average in averages.items()
        if weights[name].shape == average.shape and torch.equal(weights[name], weights[other])
    }


class Averaged(nn.Module):
    """Exponential moving average of a model's parameters and of its floating-point buffers.

    After update n the decay is ``min(1 - 1 / n, decay)``: the plain mean of the weights after every
    update at first. The random start is no part of it.

    Args:
        model: The model to follow.
        decay: What remains of the average after an update.
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__()
        self.decay = decay
        self.register_buffer("updates", torch.tensor(-1))  # nothing averaged yet
        for name, tensor in _followed(model):
            *path, leaf = name.split(".")
            _nested(self, path).register_buffer(leaf, tensor.detach().float().clone())

    def follow(self, model: nn.Module, num_updates: int) -> None:
        """Moves towards the model's present state; does nothing if that was averaged already.

        Args:
            model: The model, after ``num_updates`` updates.
            num_updates: Number of updates done.
        """
        seen = int(self.get_buffer("updates"))
        if num_updates <= seen:
            return
        share = 1.0 if seen < 0 else max(1.0 / num_updates, 1.0 - self.decay)
        with torch.no_grad():
            for name, tensor in _followed(model):
                self.get_buffer(name).lerp_(tensor.float(), share)
            self.get_buffer("updates").fill_(num_updates)

    def teach(self, model: Any, net_input: Dict[str, Any]) -> TeacherOutputs:
        """Runs the averaged model on a batch, without gradients and without dropout.

        Call it before the model's own forward of that batch: the parameters are lent to it.

        Args:
            model: The model that is followed.
            net_input: What the model's forward takes.

        Returns:
            Features ``(..., dim)`` and projections of every leaf's averaged copy.
        """
        averages = [(own, self.get_buffer(name).to(own.dtype)) for name, own in _followed(model)]
        with torch.no_grad(), _evaluation(model), _lent(averages):
            outputs = model(**net_input, branches=True)
        of = {id(own): average for own, average in averages}
        projections = [
            Projection(
                of[id(_original(own.weight))].view(own.weight.shape),
                None if own.bias is None else of[id(own.bias)],
            )
            for own in model.projections[: model.objective.leaves]
        ]
        return TeacherOutputs(outputs.features[: len(projections)], projections)

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """Lets the model be its average for a while: it validates and decodes with it."""
        averages = [(own, self.get_buffer(name).to(own.dtype)) for name, own in _followed(model)]
        with _lent(averages):
            yield

    def __repr__(self) -> str:
        """One line instead of the whole model's structure once more."""
        return f"Averaged(decay={self.decay})"

    def _apply(self, fn, recurse: bool = True):
        """Stays in float32: in half precision small steps would be lost."""
        super()._apply(fn, recurse)
        for buffer in self.buffers():
            if buffer.is_floating_point():
                buffer.data = buffer.data.float()
        return self


def _followed(model: nn.Module) -> Iterator[Tuple[str, Tensor]]:
    """Parameters, and buffers that checkpoints hold, with their names; tied ones once."""
    saved = model.state_dict(keep_vars=True)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        left_out = any(part in f".{name}" for part in LEFT_OUT)
        if name in saved and tensor.is_floating_point() and not left_out:
            yield name, tensor


def _original(tensor: Tensor) -> Tensor:
    """The parameter that a tensor is a view of: a 1x1 convolution projects as a matrix."""
    return tensor if tensor._base is None else tensor._base


def _nested(root: nn.Module, path: List[str]) -> nn.Module:
    """The module at ``path`` below ``root``; creates what is missing."""
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root


@contextmanager
def _lent(averages: List[Tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Parameters with the values of their averages; tied and shared ones stay what they are."""
    originals = [own.data for own, _ in averages]
    try:
        for own, average in averages:
            own.data = average
        yield
    finally:
        for (own, _), original in zip(averages, originals):
            own.data = original


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
