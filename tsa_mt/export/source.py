"""Where a model to export comes from: a checkpoint, or a folder that was exported before."""

from pathlib import Path
from typing import Optional, Tuple

from tsa_mt.export.checkpoint import PathLike, load_checkpoint
from tsa_mt.export.companions import Companions, find_companions
from tsa_mt.export.leader import PlainTransformer, plain_transformer


def read_source(
    source: PathLike, branch: int = 0, data: Optional[PathLike] = None
) -> Tuple[PlainTransformer, Companions]:
    """Reads a model and finds the files that belong to it.

    Args:
        source: A checkpoint file, or the folder of an earlier ``--to fairseq`` export.
        branch: The leaf to take; 0 is the leader.
        data: Folder with the dictionaries, where it is not the one the checkpoint names.

    Raises:
        FileNotFoundError: The checkpoint, the data folder or a dictionary is missing.
        ValueError: The checkpoint cannot be read, has no such branch or cannot be exported.
    """
    path = Path(source)
    if (path / "model.pt").is_file():
        path, data = path / "model.pt", data or path
    plain = plain_transformer(load_checkpoint(path), branch)
    return plain, find_companions(plain.task, path, data)
