"""The dictionaries of a checkpoint are those of the data: every number means the same symbol.

Shapes fit as soon as two dictionaries are equally long. With another order every word is another,
and nothing but the translations tells. `install` lets fairseq's trainer check the checkpoint of
another training that it starts from.
"""

import functools
import logging
import os
from collections.abc import Mapping
from typing import Any, Optional, Tuple

from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from fairseq.data import Dictionary
from fairseq.trainer import Trainer
from fairseq.utils import split_paths
from omegaconf import OmegaConf

logger = logging.getLogger(__name__)


def check_dictionaries(state: Mapping[str, Any], task: Any, what: str, path: str) -> None:
    """Compare a checkpoint's vocabularies with the task's dictionaries.

    A checkpoint tells their sizes only. The symbols are compared where its own dictionaries are at
    hand: beside the checkpoint, or in the folder it was trained on.

    Args:
        state: The checkpoint.
        task: With the dictionaries.
        what: The checkpoint's part in it, for messages: ``teacher``, ``checkpoint``.
        path: Where it came from.

    Raises:
        ValueError: A size or a symbol differs.
    """
    for side, dictionary, names in tables(task):
        weights = state["model"]
        rows = next((weights[name].shape[0] for name in names if name in weights), None)
        if rows is not None and rows != len(dictionary):
            raise ValueError(
                f"{what} {path} has {rows} symbols in its {side} vocabulary, but the {side} "
                f"dictionary has {len(dictionary)}; binarise the data with the {what}'s "
                f"dictionaries (fairseq-preprocess --srcdict ... --tgtdict ...)"
            )
        _check_symbols(state["cfg"], side, dictionary, what, path)


def _check_symbols(config: Any, side: str, dictionary: Dictionary, what: str, path: str) -> None:
    recorded = _dictionary_file(config, side, path)
    if recorded is None:
        logger.warning(
            f"{what} {path}: its {side} dictionary is not at hand; whether the order of the "
            f"symbols is that of the data cannot be checked"
        )
        return
    pairs = zip(Dictionary.load(recorded).symbols, dictionary.symbols, strict=False)
    for number, (theirs, ours) in enumerate(pairs):
        if theirs != ours:
            raise ValueError(
                f"{what} {path} has other symbols than the {side} dictionary: number {number} is "
                f"{theirs!r} in {recorded} and {ours!r} here; binarise the data with the {what}'s "
                f"dictionaries, or put the right ones beside its checkpoint"
            )


def _dictionary_file(config: Any, side: str, path: str) -> Optional[str]:
    """The checkpoint's own dictionary, if it is beside it or where it was trained."""
    language = OmegaConf.select(config, f"task.{side}_lang")
    data = split_paths(OmegaConf.select(config, "task.data") or "")
    for folder in (os.path.dirname(path), *data[:1]):
        file = os.path.join(folder, f"dict.{language}.txt")
        if os.path.isfile(file):
            return file
    return None


def tables(task: Any) -> Tuple[tuple, ...]:
    """Side, dictionary and the names of its parameters, for every dictionary of a task."""
    if getattr(task, "target_dictionary", None) is None:
        return ()
    target = ("decoder.output_projection.weight", "decoder.embed_tokens.weight")
    return (
        ("source", task.source_dictionary, ("encoder.embed_tokens.weight",)),
        ("target", task.target_dictionary, target),
    )


def install() -> None:
    """Let fairseq's trainer check what it starts from, once."""
    load = Trainer.load_checkpoint
    if getattr(load, "checks_dictionaries", False):
        return

    @functools.wraps(load)
    def checked(self: Trainer, filename: str, *args: Any, **kwargs: Any) -> Any:
        if os.path.isfile(filename) and not _is_own(filename, self.cfg.checkpoint.save_dir):
            state = load_checkpoint_to_cpu(filename)
            if state.get("cfg") is not None and isinstance(state.get("model"), Mapping):
                check_dictionaries(state, self.task, "checkpoint", filename)
        return load(self, filename, *args, **kwargs)

    checked.checks_dictionaries = True  # type: ignore[attr-defined]
    Trainer.load_checkpoint = checked


def _is_own(filename: str, save_dir: str) -> bool:
    return os.path.realpath(os.path.dirname(filename)) == os.path.realpath(save_dir)
