"""Frozen teachers: loaded once, run in eval mode without gradients, never in a checkpoint.

A `Teacher` is no ``nn.Module`` on purpose: what holds one (the criterion) does not register the
model, so that it is neither saved, nor trained, nor wrapped for several devices. It is also built
past the task: ``task.build_model`` would hand the task's ``--eval-bleu`` generator to the teacher.
"""

import logging
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Dict, List, Optional

import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from fairseq.models import build_model
from torch import Tensor, nn

from tsa_mt.averaged import averaged_weights
from tsa_mt.branches import Projection
from tsa_mt.dictionaries import check_dictionaries, tables
from tsa_mt.sources import AVERAGED, Source, parse_sources

logger = logging.getLogger(__name__)

SETTLED = {
    "kd_teacher": None,
    "decode_branch": 0,
    "encoder_embed_path": None,
    "decoder_embed_path": None,
}
"""Options of a teacher's own training that must not act again: it may have had a teacher itself,
and its pre-trained embeddings come with its weights."""

_LOADED: Dict[tuple, List["Teacher"]] = {}


@dataclass(frozen=True, eq=False)
class TeacherPass:
    """What one teacher computed for one batch, without gradients.

    Attributes:
        features: ``(batch, length, dim)`` final features, the input of its projection.
        hidden: ``(length, batch, dim)`` before the first and after every decoder layer.
        encoded: The encoder's output, as fairseq's decoders take it.
    """

    features: Tensor
    hidden: List[Tensor]
    encoded: Dict[str, List[Tensor]]


class Teacher:
    """A frozen model.

    Args:
        model: An encoder-decoder of fairseq; of a tree only the leader is kept, unless a leaf is
            asked for.
        path: Where it came from, for messages.
        leaf: The leaf of a tree that teaches; unset, the leader, or the only one.

    Raises:
        ValueError: The decoder has no plain output projection.
    """

    def __init__(self, model: nn.Module, path: str, leaf: Optional[int] = None):
        decoder = getattr(model, "decoder", None)
        projection = getattr(decoder, "output_projection", None)
        if not isinstance(projection, nn.Linear):
            raise ValueError(
                f"teacher {path} is a {type(model).__name__}, which cannot teach: its decoder has "
                f"no plain output_projection; use a Transformer without --adaptive-softmax-cutoff"
            )
        if leaf is None and hasattr(decoder, "drop_branches"):
            decoder.drop_branches()
        self.leaf = leaf
        self.path = path
        self.model = model.eval().requires_grad_(False)

    @property
    def projection(self) -> Projection:
        """The map from its features to logits."""
        if self.leaf is not None:
            return self.model.decoder.projections[self.leaf]
        layer = self.model.decoder.output_projection
        return Projection(layer.weight, layer.bias)

    def run(self, net_input: Mapping[str, Tensor], like: Tensor) -> TeacherPass:
        """Runs the teacher over a batch.

        Args:
            net_input: ``src_tokens``, ``src_lengths`` and ``prev_output_tokens``.
            like: A parameter of the student; the teacher moves to its device and type.
        """
        self._follow(like)
        if self.leaf is not None:
            self.model.decode_with(self.leaf)  # the leaves of an ensemble share the model
        with torch.no_grad():
            encoded = self.model.encoder(
                net_input["src_tokens"], src_lengths=net_input["src_lengths"]
            )
            features, extra = self.model.decoder(
                net_input["prev_output_tokens"], encoder_out=encoded, features_only=True
            )
        return TeacherPass(features, extra["inner_states"], encoded)

    def _follow(self, like: Tensor) -> None:
        """Moves and casts the model where the student went; the trainer does not know of it."""
        mine = self.projection.weight
        if mine.device != like.device or mine.dtype != like.dtype:
            self.model.to(device=like.device, dtype=like.dtype)


def load_teachers(text: str, task) -> List[Teacher]:
    """Loads the networks that ``--kd-teacher`` names; each file once per process.

    Args:
        text: One checkpoint with or without a branch, or several; see `tsa_mt.sources`.
        task: The student's task, for its dictionaries.

    Returns:
        One teacher for every checkpoint, or one for every leaf of an ensemble.

    Raises:
        FileNotFoundError: A checkpoint does not exist.
        ValueError: No path is given, a file is no checkpoint or has no such branch, it was trained
            with dictionaries of another size, or it cannot teach.
    """
    sources = parse_sources(text)
    if not sources:
        raise ValueError("the objective needs a teacher; give its checkpoint as --kd-teacher PATH")
    return [teacher for source in sources for teacher in _load(source, task)]


def load_teacher(text: str, task) -> Teacher:
    """Loads the only network that ``--kd-teacher`` names.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There are several, or see `load_teachers`.
    """
    teachers = load_teachers(text, task)
    if len(teachers) > 1:
        raise ValueError(f"--kd-teacher {text} is {len(teachers)} networks, where one is needed")
    return teachers[0]


def _load(source: Source, task) -> List[Teacher]:
    """The teachers that a source is, from the file or as this process has loaded them already."""
    path = source.path
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"teacher {path} does not exist; --kd-teacher takes fairseq checkpoints, separated by "
            f"'{os.pathsep}' (decoding the student needs none)"
        )
    stamp = os.stat(path)
    sizes = [len(dictionary) for _, dictionary, _ in tables(task)]
    key = (os.path.realpath(path), source.branch, stamp.st_mtime_ns, stamp.st_size, *sizes)
    if key not in _LOADED:
        _LOADED[key] = _teachers_of(_build(source, task), source)
    return _LOADED[key]


def _teachers_of(model: nn.Module, source: Source) -> List[Teacher]:
    """The teachers that a model is: its leader, a leaf, or all leaves.

    Raises:
        ValueError: It has no such branch.
    """
    leaves = len(model.tree.leaves) if hasattr(model, "tree") else 1
    adapt = getattr(model, "as_teacher", None)  # other kinds of models know how they teach
    if source.branch in (0, AVERAGED):
        return [Teacher(model, source.path) if adapt is None else adapt(source.path)]
    if adapt is not None or not -1 <= source.branch < leaves or leaves == 1:
        raise ValueError(
            f"teacher {source} has no branch {source.branch} that could teach; "
            + (
                "an image network teaches with its leader, or with ':averaged'"
                if adapt is not None
                else f"its leaves are 0 to {leaves - 1}, and of several -1 is their ensemble"
            )
        )
    chosen = range(leaves) if source.branch == -1 else [source.branch]
    return [Teacher(model, str(source), leaf) for leaf in chosen]


def _build(source: Source, task) -> nn.Module:
    """The model of a checkpoint, built and filled without the task taking notice."""
    path = source.path
    try:
        state = load_checkpoint_to_cpu(path, arg_overrides=SETTLED)
        weights, config = state["model"], state["cfg"]["model"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise ValueError(f"teacher {path} is no readable fairseq checkpoint ({reason})") from error
    check_dictionaries(state, task, "teacher", path)
    if source.branch == AVERAGED:
        weights = averaged_weights(weights, f"teacher {path}")
    model = build_model(config, task, from_checkpoint=True)
    try:
        model.load_state_dict(weights, strict=True, model_cfg=config)
    except RuntimeError as error:
        raise ValueError(f"teacher {path} does not fit its own configuration: {error}") from error
    return model
