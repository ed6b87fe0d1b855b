"""What a record says about a run beside its figures: options, method, data, code, hardware.

Everything is gathered on rank 0 before the first update, in a second or two: data beyond a bound
are known by samples of their content, and the record says so.
"""

import dataclasses
import enum
import functools
import hashlib
import math
import os
import platform
import subprocess
import sys
from argparse import Namespace
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import nn

from tsa_mt.evaluate.run_folder import RECORD
from tsa_mt.version import __version__

MIB = 2**20
WHOLE_BYTES = 1024 * MIB
"""Data up to this size are hashed byte by byte."""
SAMPLED_FILES = 2000
"""Beyond `WHOLE_BYTES` up to this many files are known by their size, first and last MiB."""
OTHER_COMMANDS = {
    *("common_eval", "generation", "eval_lm", "interactive", "scoring"),
    "job_logging_cfg",
}
"""Sections of fairseq's configuration that a training does not read."""
PACKAGES = ("fairseq-fixed", "fairseq", "numpy", "sacrebleu", "sentencepiece")
BRANCHES = "branches"


# --- options ------------------------------------------------------------------------------------


def all_options(config: Any) -> Dict[str, Any]:
    """Every option of a training as ``section.name``, with values that JSON can hold.

    A section that comes as a flat namespace repeats what others have; there it counts once.
    """
    sections = {
        name: section
        for name, section in _plain_container(config).items()
        if name not in OTHER_COMMANDS and isinstance(section, (dict, Namespace))
    }
    elsewhere = set(sections).union(*(s for s in sections.values() if isinstance(s, dict)))
    found: Dict[str, Any] = {}
    for name, section in sections.items():
        flat = isinstance(section, Namespace)
        values: Any = vars(section) if flat else section
        if values.get("_name") is not None:
            found[f"{name}._name"] = values["_name"]
        for key in values.keys() - {"_name"} - (elsewhere if flat else set()):
            found[f"{name}.{key}"] = json_value(values[key])
    return dict(sorted(found.items()))


def _plain_container(config: Any) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException:  # an interpolation that this architecture cannot answer
        return OmegaConf.to_container(config)


def json_value(value: Any) -> Any:
    """The value itself where strict JSON has it, else the closest thing."""
    if isinstance(value, enum.Enum):
        return json_value(value.value)
    if isinstance(value, dict):
        return {str(key): json_value(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


# --- the model ----------------------------------------------------------------------------------


def method_of(model: nn.Module, criterion: Optional[str]) -> Dict[str, Any]:
    """The objective with its effective options, and the tree; a plain model has one leaf."""
    objective, tree = getattr(model, "objective", None), getattr(model, "tree", None)
    if objective is None or tree is None:
        plain: Dict[str, Any] = {"objective": None, "tree": None, "leaves": 1, "options": {}}
        return {**plain, "criterion": criterion}
    return {
        "objective": objective.name,
        "tree": str(tree),
        "leaves": len(tree.leaves),
        "options": json_value(dataclasses.asdict(objective.config)),
        "criterion": criterion,
    }


def parameter_counts(model: nn.Module) -> Dict[str, int]:
    """Numbers of trained parameters: of the whole model, and of the leader that ships."""
    trained = [(name, p.numel()) for name, p in model.named_parameters() if p.requires_grad]
    return {
        "training": sum(count for _, count in trained),
        "leader": sum(count for name, count in trained if BRANCHES not in name.split(".")),
    }


# --- data ---------------------------------------------------------------------------------------


def data_manifest(data: Optional[str], splits: Sequence[str]) -> Dict[str, Any]:
    """A hash over names, sizes and content of the files that a training reads.

    Args:
        data: Folders, separated as fairseq separates them.
        splits: Names of the subsets; of a data-bin only their files and the dictionaries count, of
            any other folder every file.

    Returns:
        ``path``, ``sha256``, number of ``files``, their ``bytes``, and in ``content`` what of them
        was read.
    """
    folders = [Path(part) for part in (data or "").split(os.pathsep) if part]
    files = [
        (f"{number}/{name}", path)
        for number, folder in enumerate(folders)
        for name, path in sorted(_files_of(folder, splits))
    ]
    sizes = [path.stat().st_size for _, path in files]
    content, reader = _reading(sum(sizes), len(files))
    digest = hashlib.sha256()
    for (name, path), size in zip(files, sizes):
        digest.update(f"{name}\t{size}\t{reader(path, size)}\n".encode())
    return {
        "path": data,
        "sha256": digest.hexdigest() if files else None,
        "files": len(files),
        "bytes": sum(sizes),
        "content": content,
    }


@functools.lru_cache(maxsize=8)
def data_at_start(data: Optional[str], splits: Tuple[str, ...]) -> Dict[str, Any]:
    """The `data_manifest` as it was when this process first asked; large data are read once."""
    return data_manifest(data, splits)


def _files_of(folder: Path, splits: Sequence[str]) -> List[Tuple[str, Path]]:
    """Dictionaries and files of the splits; of a folder without dictionaries, all files."""
    everything = list(_walk(folder))
    if not any(name.startswith("dict.") for name, _ in everything):
        return everything
    prefixes = ("dict.", *(f"{split}." for split in splits))
    return [file for file in everything if file[0].startswith(prefixes)]


def _walk(folder: Path) -> Iterator[Tuple[str, Path]]:
    for place, below, names in os.walk(folder):
        if RECORD in names:  # a run that is saved among its data is none of them
            below.clear()
            continue
        for name in names:
            path = Path(place) / name
            if path.is_file():  # links may lead nowhere
                yield path.relative_to(folder).as_posix(), path


def _reading(total: int, count: int) -> Tuple[str, Any]:
    """How much of the files is read: a word for the record, and the function."""
    if total <= WHOLE_BYTES:
        return "whole files", lambda path, size: _hash_ranges(path, [(0, size)])
    if count <= SAMPLED_FILES:
        return "sizes, first and last MiB", lambda path, size: _hash_ranges(
            path, [(0, MIB), (max(0, size - MIB), MIB)]
        )
    return "names and sizes", lambda path, size: ""


def _hash_ranges(path: Path, ranges: Sequence[Tuple[int, int]]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for start, length in ranges:
            file.seek(start)
            while length > 0 and (block := file.read(min(length, MIB))):
                digest.update(block)
                length -= len(block)
    return digest.hexdigest()


# --- code and machine ---------------------------------------------------------------------------


def commit() -> Optional[str]:
    """The checkout's commit, with ``+`` when files were changed; unset for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--tags", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def versions() -> Dict[str, str]:
    """Versions of what the results depend on."""
    found = {"tsa_mt": __version__, "python": platform.python_version()}
    found["torch"] = str(torch.__version__)
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware(on_gpu: bool, workers: int) -> Dict[str, Any]:
    """The machine, as far as it decides how fast a training is."""
    return {
        "device": "cuda" if on_gpu else "cpu",
        "name": torch.cuda.get_device_name() if on_gpu else _cpu_name(),
        "workers": workers,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def arithmetic(criterion: nn.Module, on_gpu: bool) -> Optional[Dict[str, Any]]:
    """How matrix products are computed and what was measured; unset where nobody chose it."""
    choose = getattr(criterion, "precision", None)
    chosen = choose("cuda" if on_gpu else "cpu") if callable(choose) else None
    return None if chosen is None else dataclasses.asdict(chosen)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_resident_bytes() -> int:
    """Most memory this process has had; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
