"""The costs of a model and of the plain network beside it, as a table and as JSON."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from tsa_mt.plan.leader import LeaderCost, leader_cost
from tsa_mt.plan.pretence import pretending
from tsa_mt.plan.subject import Subject
from tsa_mt.plan.update import UpdateCost, update_cost


@dataclass(frozen=True)
class Costs:
    """Costs of training a model and of its leader."""

    training: UpdateCost
    leader: LeaderCost


@dataclass(frozen=True)
class Setting:
    """How a model is trained.

    Attributes:
        device: ``cpu`` or ``cuda``.
        optimizer: See `tsa_mt.plan.update.OPTIMIZERS`.
        dtype: See `tsa_mt.plan.update.DTYPES`.
        update_freq: Batches per update.
    """

    device: str
    optimizer: str
    dtype: str = "fp32"
    update_freq: int = 1


def costs(subject: Subject, setting: Setting) -> Costs:
    """Counts what an update of a model and one forward of its leader cost."""
    with pretending(setting.device) as meter:
        training = update_cost(
            subject, meter, setting.optimizer, setting.dtype, setting.update_freq
        )
    with pretending(setting.device) as meter:
        return Costs(training, leader_cost(subject, meter))


def ratios(costs: Costs, plain: Costs) -> Dict[str, Dict[str, float]]:
    """The figures of a model in terms of the plain network's, where that has any."""
    return {
        part: {
            name: round(value / theirs[name], 4)
            for name, value in own.items()
            if isinstance(value, (int, float)) and theirs[name]
        }
        for part, own in dataclasses.asdict(costs).items()
        for theirs in [dataclasses.asdict(getattr(plain, part))]
    }


Row = Tuple[str, str, str, str]


def table(costs: Costs, plain: Costs, subject: Subject) -> str:
    """An aligned table for people.

    Args:
        costs: Of the model.
        plain: Of the plain network.
        subject: Knows what its inputs and predictions are called.
    """
    rows: List[Row] = [("training", "", "plain", "ratio")]
    update, theirs = costs.training, plain.training
    rows += [
        _row("parameters", update.parameters, theirs.parameters, count),
        *_extra("averages kept", update.kept),
        *_extra("frozen teacher", update.frozen),
        _row("FLOPs an update", update.flops, theirs.flops, count),
        _row("peak memory", update.peak_bytes, theirs.peak_bytes, size),
        _row("  model and batch", update.model_bytes, theirs.model_bytes, size),
        _row("  optimizer", update.optimizer_bytes, theirs.optimizer_bytes, size),
        _row("  held for backward", update.activation_bytes, theirs.activation_bytes, size),
        ("leader", "", "plain", "ratio"),
    ]
    leader, alone = costs.leader, plain.leader
    rows += [
        _row("parameters", leader.parameters, alone.parameters, count),
        _row(f"FLOPs a {subject.input_name}", leader.flops_per_input, alone.flops_per_input, count),
    ]
    if subject.targets > 1:
        pair = (leader.flops_per_target, alone.flops_per_target)
        rows.append(_row(f"FLOPs a {subject.unit}", *pair, count))
    for kind, number in leader.bytes.items():
        rows.append(_row(f"size, {kind}", number, alone.bytes[kind], size))
    return "\n".join(_aligned(rows))


def _row(label: str, value: float, plain: float, shown: Any) -> Row:
    ratio = f"{value / plain:.2f}" if plain else ""
    return (f"  {label}", shown(value), shown(plain), ratio)


def _extra(label: str, value: int) -> List[Row]:
    return [(f"  {label}", count(value), "", "")] if value else []


def _aligned(rows: List[Row]) -> List[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


def count(value: float) -> str:
    """A number with three digits and the thousands it is in: ``36.7 M``."""
    return _scaled(value, 1000, ("", "k", "M", "G", "T", "P", "E"))


def size(value: float) -> str:
    """A number of bytes: ``1.21 GiB``."""
    return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def _scaled(value: float, base: int, units: Tuple[str, ...]) -> str:
    power = 0
    while value >= 0.9995 * base and power < len(units) - 1:
        value, power = value / base, power + 1
    digits = 0 if value >= 99.95 or not power else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {units[power]}".strip()
