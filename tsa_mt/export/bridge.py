"""An improved teacher: the bridge of a semi-online student on top of its teacher's lower layers.

The bridge learned to continue the teacher's lower decoder layers, so the two make one plain
Transformer: the teacher's, with its top layers and final norm replaced by the bridge's.
"""

import dataclasses
import re
from pathlib import Path
from typing import Dict, Optional, Tuple

from torch import Tensor

from tsa_mt.export.checkpoint import StateDict, compact, load_checkpoint, options_of
from tsa_mt.export.companions import Companions, find_companions
from tsa_mt.export.leader import PlainTransformer, plain_transformer
from tsa_mt.files import PathLike

BRIDGE = "bridge"
PREFIX = "decoder.branches.bridge."
LAYER = re.compile(r"layers\.(\d+)\.(.+)")


def read_bridged_teacher(
    source: PathLike, teacher: Optional[PathLike] = None, data: Optional[PathLike] = None
) -> Tuple[PlainTransformer, Companions]:
    """Reads a semi-online student and its teacher and puts the two together.

    Args:
        source: The student's checkpoint.
        teacher: The teacher's checkpoint; unset, the one the student was trained with.
        data: Folder with the dictionaries, where it is not the one the student names.

    Raises:
        FileNotFoundError: A checkpoint, the data folder or a dictionary is missing.
        ValueError: The student has no bridge, or the bridge does not fit the teacher.
    """
    student = load_checkpoint(source)
    place = Path(teacher or _recorded_teacher(student, source))
    plain = bridged_teacher(student, load_checkpoint(place), place.name)
    return plain, find_companions(plain.task, source, data)


def _recorded_teacher(student: dict, source: PathLike) -> str:
    recorded = options_of(student, "model").get("kd_teacher")
    if not recorded or not Path(recorded).is_file():
        raise FileNotFoundError(
            f"the teacher that {source} was trained with ({recorded or 'none recorded'}) is not "
            f"there; name its checkpoint with --teacher"
        )
    return recorded


def bridged_teacher(student: dict, teacher: dict, name: str = "the teacher") -> PlainTransformer:
    """The teacher with its top decoder layers and final norm replaced by the student's bridge.

    Args:
        student: Checkpoint that holds a bridge.
        teacher: Checkpoint of the teacher it grew out of; of a tree the leader is taken.
        name: What to call the teacher in messages.

    Raises:
        ValueError: There is no bridge, or it does not fit.
    """
    plain = plain_transformer(teacher)
    bridge = {
        key.removeprefix(PREFIX): tensor
        for key, tensor in student["model"].items()
        if key.startswith(PREFIX)
    }
    if not bridge:
        raise ValueError(
            "the checkpoint holds no bridge; only --kd-objective sokd trains one (--branch takes a "
            "leaf's number otherwise)"
        )
    replaced = _stock_names(bridge, int(plain.options["decoder_layers"]))
    _refuse_misfit(replaced, plain.weights, name)
    own = plain_transformer(student)
    return dataclasses.replace(
        plain,
        weights=compact({**plain.weights, **replaced}),
        task=own.task,
        criterion=own.criterion,
        updates=own.updates,
        origin=f"{name} with the bridge in place of its top {_layers(bridge)} decoder layers",
    )


def _layers(bridge: StateDict) -> int:
    return 1 + max(int(found[1]) for found in map(LAYER.match, bridge) if found)


def _stock_names(bridge: StateDict, depth: int) -> Dict[str, Tensor]:
    """The bridge's entries under the names of the teacher's top layers and final norm."""
    start = depth - _layers(bridge)
    names = {}
    for key, tensor in bridge.items():
        layer = LAYER.match(key)
        stock = f"layers.{start + int(layer[1])}.{layer[2]}" if layer else key
        names[f"decoder.{stock}"] = tensor
    return names


def _refuse_misfit(replaced: StateDict, teacher: StateDict, name: str) -> None:
    for key, tensor in replaced.items():
        shape = tuple(teacher[key].shape) if key in teacher else "no such entry"
        if shape != tuple(tensor.shape):
            raise ValueError(
                f"the bridge did not grow out of {name}: its '{key}' has shape "
                f"{tuple(tensor.shape)}, the teacher's {shape}; name the right one with --teacher"
            )
