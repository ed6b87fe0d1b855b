"""fairseq checkpoint files: read as data, never as programs, and written all or nothing.

`torch.load` runs code from a file unless it is told to accept tensors and plain containers only.
A fairseq checkpoint holds a little more than those (its options are an `argparse.Namespace`, its
meters are NumPy numbers), so exactly these harmless classes are admitted, and only while a file is
being read.
"""

import argparse
import os
import pickle
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Tuple

import torch
from torch import Tensor

from tsa_mt import checksum
from tsa_mt.compat import allowing, checkpoint_classes
from tsa_mt.files import PathLike, digest, writing

StateDict = Dict[str, Tensor]


class SourceFile(NamedTuple):
    """A model's file, with what proves that it is the same file.

    Attributes:
        path: Where it lies.
        bytes: Its size.
        sha256: Its checksum, hexadecimal.
    """

    path: Path
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: PathLike) -> "SourceFile":
        """Measures a file."""
        path = Path(path)
        return cls(path, path.stat().st_size, digest(path))


def load_checkpoint(path: PathLike) -> dict:
    """Reads a fairseq checkpoint onto the CPU without running anything that it contains.

    Args:
        path: A ``.pt`` file that `fairseq-train`, `tsa-mt average` or `tsa-mt export` wrote.

    Returns:
        The checkpoint's dictionary; ``["model"]`` is the state dict.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedCheckpoint: It loads, and a part of it does not match its checksum.
        ValueError: The file is damaged, holds classes that safe loading refuses, or is no
            checkpoint with a model in it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist" + _neighbours(path))
    try:
        with allowing(checkpoint_classes()):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(_why_unreadable(path, error)) from error
    checksum.check(path)
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise ValueError(f"{path} is not a fairseq checkpoint: it holds no 'model' weights")
    return state


def _neighbours(path: Path) -> str:
    """What a person may have meant: the checkpoints near a path that is not there."""
    folder = path if path.is_dir() else path.parent
    names = sorted(p.name for p in folder.glob("*.pt")) if folder.is_dir() else []
    return f"; {folder} holds {', '.join(names[:5])}" if names else ""


def _why_unreadable(path: Path, error: Exception) -> str:
    """One sentence for a file that safe loading did not accept."""
    try:
        with allowing(checkpoint_classes()):
            refused = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # Not even the list of classes can be read: the file itself is broken.
        refused = []
    if refused:
        return (
            f"{path} contains {', '.join(refused)}, which safe loading refuses because reading it "
            f"could run code; save the checkpoint again without such objects"
        )
    first_line = (str(error).splitlines() or ["no reason given"])[0]
    return f"{path} cannot be read, it is damaged or not a PyTorch file ({first_line})"


def save_checkpoint(state: dict, path: PathLike, force: bool = False) -> Path:
    """Writes a checkpoint that is whole or absent.

    Args:
        state: The checkpoint's dictionary. Tensors that share memory share it in the file too.
        path: Destination; its folder is created.
        force: Replace an existing file.

    Raises:
        FileExistsError: ``path`` exists and ``force`` is not set.
        FileError: It cannot be written.
    """
    path = Path(path)
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists; pass --force to replace it")
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder; name a file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, durable=True) as stream:
        try:
            torch.save(state, stream)
        except RuntimeError:  # PyTorch hides what the disk has said: let it say so again
            os.write(stream.fileno(), bytes(4096))
            raise
    return path


def options_of(checkpoint: dict, section: str) -> dict:
    """One section of a checkpoint's configuration as a plain dictionary.

    fairseq stores ``cfg`` with sections, some of them (the legacy models') a `Namespace`;
    checkpoints older than fairseq 0.11 have one `Namespace` ``args`` for everything.

    Raises:
        ValueError: The checkpoint carries no configuration.
    """
    config = checkpoint.get("cfg")
    if config is None:
        if checkpoint.get("args") is None:
            raise ValueError("the checkpoint has neither 'cfg' nor 'args': its options are unknown")
        flat = dict(vars(checkpoint["args"]))
        name = flat.get("arch") if section == "model" else flat.get(section)
        return {**flat, "_name": name}
    options = config.get(section)
    if isinstance(options, argparse.Namespace):
        options = vars(options)
    return dict(options or {})


def compact(weights: StateDict) -> StateDict:
    """Copies weights so that the file holds each tensor once and nothing beside it.

    A view would drag its whole storage into the file; tensors that are the same memory, and
    embeddings and projections with equal values (a checkpoint from a GPU has lost their sharing),
    become one tensor.
    """
    copies: Dict[tuple, Tensor] = {}
    compacted = {}
    for name, tensor in weights.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if place not in copies or not tensor.numel():
            copies[place] = tensor.detach().clone()
        compacted[name] = copies[place]
    return share_equal_tables(compacted)


def share_equal_tables(weights: StateDict) -> StateDict:
    """Lets vocabulary-sized tables with equal values share one tensor; changes ``weights``."""
    tables: List[Tensor] = []
    for name in _tables(weights):
        twin = next((table for table in tables if _same(table, weights[name])), None)
        if twin is None:
            tables.append(weights[name])
        else:
            weights[name] = twin
    return weights


def _tables(weights: Iterable[str]) -> List[str]:
    """Names of token embeddings and output projections, the leader's and the branches'."""
    parts = ("embed_tokens.", "output_projection.", "output_projections.")
    return [name for name in weights if any(part in name for part in parts)]


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def shapes(weights: StateDict) -> Dict[str, Tuple[int, ...]]:
    """Shape of every entry, for comparing two models."""
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}
