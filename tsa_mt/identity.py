"""What a training must be to go on with a checkpoint: of the same method, tree, words and data.

fairseq goes on with whatever has the same shapes: with another method, or with a dictionary of the
same size in another order. A checkpoint therefore tells what it was trained as, and a training
that differs is refused by the name of what differs.
"""

import contextlib
import hashlib
from typing import Any, Dict, Iterator, Optional

from fairseq.trainer import Trainer

from tsa_mt.evaluate import run_facts

KEY = "identity"
"""Of the identity among what a checkpoint keeps."""
ANEW = "give another --save-dir to train anew"
REMEDIES = {
    "data": "give the data it was trained on, or --reset-dataloader to go on with these from a "
    "first epoch",
    "dictionaries": "give the data-bin it was trained on",
}

_expected: Optional[Dict[str, Any]] = None


class AnotherRun(ValueError):
    """A checkpoint is of a training of another kind."""


def of(trainer: Trainer) -> Dict[str, Any]:
    """The identity of a training: plain values by name, the most telling first."""
    method = run_facts.method_of(trainer.get_model(), None)
    config = trainer.cfg
    subsets = config.dataset.valid_subset.split(",")
    data = getattr(config.task, "data", None)
    return {
        "objective": method["objective"],
        "tree": method["tree"],
        "dictionaries": _words(trainer.task),  # before the data, whose hash covers their files
        "data": run_facts.data_at_start(data, ("train", *subsets))["sha256"],
        **{f"option {name}": value for name, value in method["options"].items()},
    }


def _words(task: Any) -> Optional[str]:
    """A hash over the words of the dictionaries, in order; unset where there are none."""
    found = (getattr(task, name, None) for name in ("src_dict", "tgt_dict", "dictionary"))
    lists = [each.symbols for each in found if each is not None and hasattr(each, "symbols")]
    return hashlib.sha256(repr(lists).encode()).hexdigest() if lists else None


@contextlib.contextmanager
def expecting(identity: Optional[Dict[str, Any]]) -> Iterator[None]:
    """Lets `check` compare with an identity for a while."""
    global _expected
    _expected = identity
    try:
        yield
    finally:
        _expected = None


def check(path: str, found: Optional[Dict[str, Any]]) -> None:
    """Refuses a checkpoint of another identity than is expected; one that does not tell is taken.

    Raises:
        AnotherRun: Something differs. It names the first such thing in the order of `of`.
    """
    if not found or _expected is None:
        return
    for name, value in _expected.items():
        if name in found and found[name] != value:
            raise AnotherRun(
                f"{path} was trained with {_said(name, found)} and this training has "
                f"{_said(name, _expected)}; {REMEDIES.get(name, ANEW)}"
            )


def _said(name: str, identity: Dict[str, Any]) -> str:
    value = identity[name]
    return f"{name} {value[:8]}..." if name in REMEDIES and value else f"{name} {value}"
