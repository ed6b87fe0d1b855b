"""``tsa-mt average``: one checkpoint whose parameters are the mean of several.

Averaging the last checkpoints of a run is worth about half a BLEU point for Transformers. The
mean is taken in fp32 and stored in the parameters' own type; entries that are no floating-point
numbers come from the last checkpoint. Tensors that are one in memory (tied embeddings) stay one,
so the file is as large as any of those it was made from, without their optimizer state.
"""

import argparse
import re
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from tsa_mt.export.checkpoint import (
    StateDict,
    compact,
    load_checkpoint,
    options_of,
    save_checkpoint,
    shapes,
)
from tsa_mt.files import PathLike

EPOCH = re.compile(r"checkpoint(\d+)\.pt")
UPDATE = re.compile(r"checkpoint_\d+_(\d+)\.pt")
# fairseq puts random digits behind the three decimals, so that equal values do not collide.
BEST = re.compile(r"checkpoint\.best_(.+)_(-?\d+\.\d{3})\d*\.pt")

# Options that change what equal shapes compute; models that differ in one must not be mixed.
FUNCTION = (
    "tree",
    "activation_fn",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "encoder_normalize_before",
    "decoder_normalize_before",
    "no_scale_embedding",
    "share_all_embeddings",
    "share_decoder_input_output_embed",
)


def average(paths: Sequence[PathLike]) -> dict:
    """Averages checkpoints of one model.

    Args:
        paths: The checkpoint files. The last one also gives the configuration and everything that
            cannot be averaged.

    Returns:
        A checkpoint without optimizer state; ``["extra_state"]["averaged"]`` names the files.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: The files are not of one model (the message names the difference), one is
            listed twice, or parameters are not finite.
    """
    files = [Path(path) for path in paths]
    _refuse_duplicates(files)
    sums: Dict[str, Tensor] = {}
    first = None
    for path in files:
        last = load_checkpoint(path)
        first = first or _description(last)
        _refuse_mixture(first, last, files[0], path)
        _add(sums, last["model"])
    weights = {name: _mean(sums, name, value, len(files)) for name, value in last["model"].items()}
    _refuse_non_finite(weights)
    last["model"] = compact(weights)
    last["last_optimizer_state"] = None
    last["extra_state"] = {**last.get("extra_state", {}), "averaged": [path.name for path in files]}
    return last


def _add(sums: Dict[str, Tensor], weights: StateDict) -> None:
    """Adds a model's floating-point entries to the running sums, at least in fp32."""
    for name, value in weights.items():
        if value.is_floating_point():
            wide = value.to(torch.promote_types(value.dtype, torch.float32))
            sums[name] = sums[name].add_(wide) if name in sums else wide.clone()


def _mean(sums: Dict[str, Tensor], name: str, last: Tensor, count: int) -> Tensor:
    return (sums[name] / count).to(last.dtype) if name in sums else last


def _description(checkpoint: dict) -> Tuple[Dict[str, tuple], Dict[str, object]]:
    """What must agree between checkpoints: shapes, and options that shapes do not show."""
    options = options_of(checkpoint, "model")
    return shapes(checkpoint["model"]), {name: options.get(name) for name in FUNCTION}


def _refuse_mixture(first: tuple, other: dict, first_path: Path, other_path: Path) -> None:
    """Raises if two checkpoints are not of one model, naming up to three differences."""
    (shapes_first, options_first), (shapes_other, options_other) = first, _description(other)
    differences = [
        f"only {owner.name} has '{name}'"
        for owner, mine, theirs in (
            (first_path, shapes_first, shapes_other),
            (other_path, shapes_other, shapes_first),
        )
        for name in mine
        if name not in theirs
    ]
    differences += [
        f"'{name}' is {shape} in one and {shapes_other[name]} in the other"
        for name, shape in shapes_first.items()
        if name in shapes_other and shapes_other[name] != shape
    ]
    differences += [
        f"{name} is {value!r} in one and {options_other[name]!r} in the other"
        for name, value in options_first.items()
        if options_other[name] != value
    ]
    if differences:
        more = f"; and {len(differences) - 3} more differences" if len(differences) > 3 else ""
        raise ValueError(
            f"{first_path} and {other_path} are different models: "
            + "; ".join(differences[:3])
            + more
        )


def _refuse_duplicates(paths: List[Path]) -> None:
    resolved = [path.resolve() for path in paths]
    for path in paths:
        if resolved.count(path.resolve()) > 1:
            raise ValueError(f"{path} is listed twice; it would count double")


def _refuse_non_finite(weights: StateDict) -> None:
    for name, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"'{name}' is not finite in the average: a checkpoint is broken")


def select(folder: PathLike, last: Optional[int], best: Optional[int], updates: bool) -> List[Path]:
    """Chooses checkpoints of a run by the names that fairseq gives them.

    Args:
        folder: The run's save directory.
        last: Take this many of the newest epoch checkpoints (``checkpointE.pt``).
        best: Take this many of the best ones (``checkpoint.best_METRIC_VALUE.pt``, kept by
            fairseq's ``--keep-best-checkpoints``).
        updates: With ``last``, count checkpoints in the middle of epochs
            (``checkpoint_E_U.pt``, written by ``--save-interval-updates``) instead.

    Returns:
        The files, oldest or worst first, so that the last one is the newest or the best.

    Raises:
        ValueError: There are fewer such files, or files of several metrics.
    """
    folder = Path(folder)
    count = last if best is None else best
    if count is None or None not in (last, best):
        raise ValueError(f"{folder} is a folder: say which checkpoints with --last N or --best N")
    if best is not None and updates:
        raise ValueError("--update-based goes with --last; --best looks at the metric")
    if count < 1:
        raise ValueError(f"cannot average {count} checkpoints; ask for 1 or more")
    found = _ranked_by_metric(folder) if best is not None else _ranked(folder, updates)
    if len(found) < count:
        kind = "best" if best is not None else "update" if updates else "epoch"
        names = ", ".join(path.name for path in found) or "none"
        raise ValueError(f"{folder} holds {len(found)} {kind} checkpoints ({names}), not {count}")
    return found[-count:]


def _matches(folder: Path, pattern: re.Pattern) -> List[Tuple[re.Match, Path]]:
    pairs = [(pattern.fullmatch(path.name), path) for path in sorted(folder.iterdir())]
    return [(match, path) for match, path in pairs if match]


def _ranked(folder: Path, updates: bool) -> List[Path]:
    """Epoch or update checkpoints, oldest first."""
    found = _matches(folder, UPDATE if updates else EPOCH)
    return [path for match, path in sorted(found, key=lambda pair: int(pair[0][1]))]


def _ranked_by_metric(folder: Path) -> List[Path]:
    """Best checkpoints, worst first; the run's own configuration says which way is better."""
    found = _matches(folder, BEST)
    metrics = sorted({match[1] for match, _ in found})
    if len(metrics) > 1:
        raise ValueError(
            f"{folder} holds best checkpoints of several metrics ({', '.join(metrics)}); "
            f"list the files to average"
        )
    if not found:
        return []
    options = options_of(load_checkpoint(found[0][1]), "checkpoint")
    sign = 1 if options.get("maximize_best_checkpoint_metric") else -1
    return [path for match, path in sorted(found, key=lambda pair: sign * float(pair[0][2]))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "inputs", nargs="+", metavar="CKPT", help="checkpoint files, or one folder of a run"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="checkpoint to write")
    parser.add_argument("--last", type=int, metavar="N", help="of a folder: the last N checkpoints")
    parser.add_argument("--best", type=int, metavar="N", help="of a folder: the best N checkpoints")
    parser.add_argument(
        "--update-based",
        action="store_true",
        help="with --last: checkpoints written by --save-interval-updates, not those of epochs",
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")


def run(args: argparse.Namespace) -> int:
    """Averages, and prints what was averaged.

    Raises:
        FileExistsError: The output exists and ``--force`` is not given.
        FileNotFoundError: An input does not exist.
        ValueError: The inputs cannot be averaged or chosen.
    """
    out = Path(args.out)
    if out.exists() and not args.force:
        raise FileExistsError(f"{out} exists; pass --force to replace it")
    paths = _inputs(args)
    save_checkpoint(average(paths), out, args.force)
    print(f"{out}: the mean of {len(paths)} checkpoints, {out.stat().st_size:,} bytes")
    for path in paths:
        print(f"  {path}")
    return 0


def _inputs(args: argparse.Namespace) -> List[Path]:
    """The files to average, from a folder and a count or as listed."""
    paths = [Path(name) for name in args.inputs]
    if len(paths) == 1 and paths[0].is_dir():
        return select(paths[0], args.last, args.best, args.update_based)
    folders = [str(path) for path in paths if path.is_dir()]
    if folders:
        raise ValueError(f"give one folder or several files; {folders[0]} is a folder among others")
    if args.last is not None or args.best is not None or args.update_based:
        raise ValueError("--last, --best and --update-based choose from a folder; files are listed")
    return paths
