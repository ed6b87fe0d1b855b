"""Where a model to export comes from: a checkpoint, or a folder that was exported before."""

import dataclasses
from pathlib import Path
from typing import Optional, Tuple

from tsa_mt.export import safetensors
from tsa_mt.export.checkpoint import SourceFile, load_checkpoint
from tsa_mt.export.companions import Companions, find_companions
from tsa_mt.export.leader import PlainTransformer, plain_transformer
from tsa_mt.files import PathLike

CHECKPOINT = "model.pt"


def read_source(
    source: PathLike, branch: int = 0, data: Optional[PathLike] = None
) -> Tuple[PlainTransformer, Companions]:
    """Reads a model and finds the files that belong to it.

    Args:
        source: A checkpoint file, or the folder of an earlier ``--to fairseq`` or ``--to
            safetensors`` export.
        branch: The leaf to take; 0 is the leader.
        data: Folder with the dictionaries, where it is not the one the checkpoint names.

    Raises:
        FileNotFoundError: The checkpoint, the data folder or a dictionary is missing.
        ValueError: The checkpoint cannot be read, has no such branch or cannot be exported.
    """
    path, folder = model_file(source)
    if path.name == safetensors.MODEL:
        plain = safetensors.read_safetensors(path.parent, branch)
    else:
        plain = plain_transformer(load_checkpoint(path), branch)
    plain = dataclasses.replace(plain, file=SourceFile.of(path))
    return plain, find_companions(plain.task, path, data or folder)


def model_file(source: PathLike) -> Tuple[Path, Optional[Path]]:
    """The file that holds a model's weights, and the folder of the export that it belongs to.

    Args:
        source: A checkpoint file (which belongs to no export), or the folder of an export.
    """
    source = Path(source)
    for name in (CHECKPOINT, safetensors.MODEL):
        if (source / name).is_file():
            return source / name, source
    return source, None
