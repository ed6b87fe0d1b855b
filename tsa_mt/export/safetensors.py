"""The leader's tensors as a safetensors file, with its options as JSON beside them.

The tensors have the names of stock fairseq's ``transformer``. safetensors stores no tensor twice
and refuses tensors that share memory, so of tied tables one is stored and ``config.json`` says
which names mean it. Nothing in the folder can run code.
"""

import shutil
from pathlib import Path
from typing import Dict, Tuple

from torch import Tensor

from tsa_mt.export.checkpoint import StateDict, share_equal_tables
from tsa_mt.export.companions import Companions
from tsa_mt.export.fairseq import stock_task, stock_weights
from tsa_mt.export.folder import new_folder, umask
from tsa_mt.export.leader import PlainTransformer
from tsa_mt.export.readme import Usage, write_readme
from tsa_mt.files import PathLike, read_object, write_json

MODEL = "model.safetensors"
CONFIG = "config.json"
FORMAT = "tsa-mt transformer"
"""What ``config.json`` calls itself, by which a reader recognises the folder."""

_PARTS = ("options", "task", "criterion", "updates", "branch", "origin")


def write_safetensors(
    plain: PlainTransformer, companions: Companions, out: PathLike, force: bool = False
) -> Path:
    """Writes the tensors, the configuration, dictionaries and subword model into a new folder.

    Args:
        plain: The model.
        companions: The files that belong to it.
        out: The folder to write.
        force: Replace an earlier export.

    Raises:
        FileExistsError: ``out`` exists and may not be replaced.
        ValueError: The weights are not those of a stock model, or safetensors is not installed.
    """
    with new_folder(out, MODEL, force) as folder:
        fill(plain, companions, folder)
        write_readme(folder, plain, companions, usage(companions))
    return Path(out)


def fill(plain: PlainTransformer, companions: Companions, folder: Path) -> None:
    """Writes everything but the README into a folder."""
    stored, aliases = _without_twins(stock_weights(plain, companions))
    save_tensors(stored, folder / MODEL)
    config = {
        "format": FORMAT,
        "version": 1,
        **{part: getattr(plain, part) for part in _PARTS},
        "task": stock_task(plain, companions),
        "shared": aliases,
    }
    write_json(folder / CONFIG, config)
    for name, source in companions.files.items():
        shutil.copyfile(source, folder / name)


def save_tensors(tensors: StateDict, path: Path) -> None:
    """Writes tensors, none of which may share memory with another.

    Raises:
        ValueError: safetensors is not installed.
    """
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    _package().save_file(contiguous, str(path), metadata={"format": "pt"})
    path.chmod(0o666 & ~umask())  # safetensors makes private files


def _package():
    try:
        import safetensors.torch
    except ImportError as error:
        raise ValueError(
            "safetensors is not installed; install it with: pip install 'tsa-mt[deploy]'"
        ) from error
    return safetensors.torch


def _without_twins(weights: StateDict) -> Tuple[StateDict, Dict[str, str]]:
    """Tensors to store, and for every name left out the name of its equal that is stored."""
    kept: Dict[int, str] = {}
    aliases: Dict[str, str] = {}
    stored: Dict[str, Tensor] = {}
    for name, tensor in share_equal_tables(dict(weights)).items():
        first = kept.setdefault(tensor.data_ptr(), name) if tensor.numel() else name
        if first == name:
            stored[name] = tensor
        else:
            aliases[name] = first
    return stored, aliases


def is_safetensors_folder(folder: PathLike) -> bool:
    """Whether a folder is a ``--to safetensors`` export, and not another tool's."""
    try:
        return read_object(Path(folder) / CONFIG).get("format") == FORMAT
    except (OSError, ValueError):
        return False


def read_safetensors(folder: PathLike, branch: int = 0) -> PlainTransformer:
    """Reads an export back.

    Args:
        folder: What `write_safetensors` wrote.
        branch: 0; an export holds one branch.

    Raises:
        ValueError: The folder is not such an export, or another branch is asked for.
    """
    folder = Path(folder)
    if not is_safetensors_folder(folder):
        raise ValueError(
            f"{folder} holds no model of tsa-mt: its {CONFIG} does not say '{FORMAT}' (a Hugging "
            f"Face folder cannot be exported again; export the checkpoint it was made from)"
        )
    if branch != 0:
        raise ValueError(f"branch {branch} does not exist: {folder} holds a single branch, 0")
    config = read_object(folder / CONFIG)
    weights = _package().load_file(str(folder / MODEL))
    weights.update({alias: weights[name] for alias, name in config["shared"].items()})
    return PlainTransformer(weights=weights, **{part: config[part] for part in _PARTS})


def usage(companions: Companions) -> Usage:
    """How to translate with such a folder."""
    return Usage(
        title="a Transformer in safetensors",
        needs="tsa-mt, which builds the network",
        code=(
            "from tsa_mt.translate import load_translator",
            'translator = load_translator(".")',
            'print(translator.translate(["A sentence to translate."])[0][0].text)',
        ),
        more=f"""The tensors in `{MODEL}` have the names of fairseq's `transformer`, and `{CONFIG}`
has its options (`options`) and the names under which a shared tensor is meant once more
(`shared`).""",
    )
