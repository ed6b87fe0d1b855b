"""Which runs are one system under several seeds, and in what runs differ.

Runs are averaged only if they differ in nothing but the seed. What a run is, for that purpose, are
its options, the effective options of its method, and the facts under which it ran: data, code,
versions, hardware. Where files lie and what is printed does not count.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from tsa_mt.evaluate.run_folder import Run, read_run

NOT_COMPARED = {
    *("checkpoint.save_dir", "task.data", "common.user_dir", "common.profile"),
    *("common.log_interval", "common.log_format", "common.log_file", "common.no_progress_bar"),
    *("common.tensorboard_logdir", "common.wandb_project", "common.azureml_logging"),
    *("common.aim_repo", "common.aim_run_hash", "dataset.data_buffer_size"),
    *("dataset.num_workers", "dataset.num_workers_valid", "distributed_training.device_id"),
    *("distributed_training.distributed_init_method", "distributed_training.distributed_port"),
    *("distributed_training.distributed_rank", "distributed_training.distributed_no_spawn"),
}
"""Options that say where things are and what is printed; what the data are says their hash."""
SHOWN_DIFFERENCES = 3


CONTROL = "independent"
"""The objective that trains the leaves of a tree without letting them teach each other."""
TEACH_ONE_LEAF = ("kd", "kd_hinton", "mean_teacher", "rdrop", "simcut", "sokd")
"""Objectives that are more than the task loss even on a chain."""
ADDED = {"rdrop_weight": "rdrop", "simcut_weight": "simcut", "word_dropout": "word dropout"}
"""What an option adds to any objective, by its name."""


@dataclass(frozen=True)
class System:
    """Runs that differ in nothing but the seed, in order of their seeds.

    Attributes:
        name: What tables call it.
        runs: At least one.
    """

    name: str
    runs: Tuple[Run, ...]

    @property
    def is_plain(self) -> bool:
        """Whether it is the plain network under its task loss."""
        return self._leaves == 1 and not _teaches(self.runs[0].record)

    @property
    def is_control(self) -> bool:
        """Whether it is a tree whose leaves learn alone: what a method on that tree must beat."""
        return self._leaves > 1 and not _teaches(self.runs[0].record)

    @property
    def needs_control(self) -> bool:
        """Whether its distance from the plain network is that of its tree and its method."""
        return self._leaves > 1 and _teaches(self.runs[0].record)

    @property
    def _leaves(self) -> int:
        """Leaves that were trained."""
        record = self.runs[0].record
        return record["method"]["leaves"] if trained_objective(record) else 1

    @property
    def seeds(self) -> List[int]:
        """The seeds."""
        return [run.record["seed"] for run in self.runs]


def control_of(system: System, systems: Sequence[System]) -> Optional[System]:
    """The control of a method: the same tree on the same task under the task loss alone.

    Args:
        system: What `System.needs_control`.
        systems: Where to look; of several the one that differs from ``system`` in fewest options.
    """

    def place(other: System) -> Tuple[Any, ...]:
        record = other.runs[0].record
        return (record["method"]["tree"], record["task"], record["data"].get("sha256"))

    def distance(other: System) -> int:
        return len(differences([choices(system.runs[0]), choices(other.runs[0])]))

    found = [other for other in systems if other.is_control and place(other) == place(system)]
    return min(found, key=distance, default=None)


def choices(run: Run) -> Dict[str, Any]:
    """What its user chose: options and method, but for the seed."""
    record = run.record
    options = {
        name: value
        for name, value in record["options"].items()
        if name not in NOT_COMPARED and name.rpartition(".")[2] != "seed"
    }
    method = {name: value for name, value in record["method"].items() if name != "options"}
    effective = {f"method.{k}": v for k, v in record["method"].get("options", {}).items()}
    return {**options, "method": method, **effective, "arch": record["arch"]}


def facts(run: Run) -> Dict[str, Any]:
    """What it ran on and with: data, code, versions and hardware."""
    record = run.record
    machine = {name: record["hardware"].get(name) for name in ("device", "name", "workers")}
    return {
        "data.sha256": record["data"].get("sha256"),
        "commit": record.get("commit"),
        **{f"versions.{name}": value for name, value in record["versions"].items()},
        **{f"hardware.{name}": value for name, value in machine.items()},
    }


def differences(
    entries: Sequence[Dict[str, Any]], ignored: Iterable[str] = ()
) -> Dict[str, List[Any]]:
    """What is not the same in all entries: the values of each, by name.

    Args:
        entries: Results of `choices` or `facts`.
        ignored: Names, or beginnings of names up to a dot, that may differ.
    """
    skipped = tuple(ignored)
    names = dict.fromkeys(name for entry in entries for name in entry)
    found = {name: [entry.get(name) for entry in entries] for name in names}
    return {
        name: values
        for name, values in found.items()
        if any(value != values[0] for value in values)
        and not any(name == skip or name.startswith(f"{skip}.") for skip in skipped)
    }


def read_systems(arguments: Sequence[str], ignored: Sequence[str] = ()) -> List[System]:
    """Reads runs and groups them.

    Args:
        arguments: Folders, each with or without a name: ``work/tsa-1`` or ``tsa=work/tsa-1``. Runs
            of one name are one system; those without a name are put together where they differ in
            nothing that their users chose but the seed.
        ignored: What may differ between the runs of a system.

    Raises:
        FileNotFoundError: A folder is not that of a run.
        ValueError: Runs of one system differ in more than the seed, or not even in the seed.
    """
    named: Dict[str, List[Run]] = {}
    nameless: List[List[Run]] = []
    for argument in arguments:
        name, path = _split_name(argument)
        run = read_run(path)
        if name:
            named.setdefault(name, []).append(run)
        else:
            _put(run, nameless, ignored)
    groups = [*zip(_names(nameless), nameless), *named.items()]
    taken = [name for name in named if sum(name == other for other, _ in groups) > 1]
    if taken:
        raise ValueError(f"the name '{taken[0]}' is that of other runs, too; choose another")
    return [_system(name, runs, ignored) for name, runs in groups]


def _split_name(argument: str) -> Tuple[str, str]:
    name, equals, path = argument.partition("=")
    if not equals or Path(argument).exists() or os.sep in name:
        return "", argument
    return name, path


def _put(run: Run, groups: List[List[Run]], ignored: Sequence[str]) -> None:
    """Adds a run to the group that it belongs to, or to a new one."""
    for group in groups:
        if not differences([choices(group[0]), choices(run)], ignored):
            group.append(run)
            return
    groups.append([run])


def _system(name: str, runs: List[Run], ignored: Sequence[str]) -> System:
    """Puts runs together.

    Raises:
        ValueError: They must not be.
    """
    found = differences([{**choices(run), **facts(run)} for run in runs], ignored)
    if found:
        lines = "".join(
            f"\n  {field}: {', '.join(_shown(value) for value in dict.fromkeys(map(str, values)))}"
            for field, values in found.items()
        )
        raise ValueError(
            f"'{name}' is no mean over seeds: {_listed(runs)} differ in more than the seed:{lines}"
            f"\nleave some out, give them different names (NAME=RUN), or accept a difference with "
            f"--ignore {next(iter(found))}"
        )
    ordered = sorted(runs, key=lambda run: run.record["seed"])
    for run, other in zip(ordered, ordered[1:]):
        if run.record["seed"] == other.record["seed"]:
            raise ValueError(
                f"{run.path} and {other.path} are the same training twice: seed "
                f"{run.record['seed']}; give only one of them"
            )
    return System(name, tuple(ordered))


def _listed(runs: Sequence[Run]) -> str:
    *most, last = [str(run.path) for run in runs]
    return f"{', '.join(most)} and {last}" if most else last


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _names(groups: Sequence[List[Run]]) -> List[str]:
    """A name for every group: its method, and in what groups of one method differ."""
    plain = [method_name(group[0]) for group in groups]
    names = []
    for name, group in zip(plain, groups):
        rivals = [other for other, title in zip(groups, plain) if title == name]
        if len(rivals) == 1:
            names.append(name)
            continue
        own, found = choices(group[0]), differences([choices(other[0]) for other in rivals])
        shown = [f"{_short(field)} {_shown(own.get(field))}" for field in found]
        more = ", ..." if len(shown) > SHOWN_DIFFERENCES else ""
        names.append(f"{name} ({', '.join(shown[:SHOWN_DIFFERENCES])}{more})")
    return [
        f"{name} #{names[: number + 1].count(name)}" if names.count(name) > 1 else name
        for number, name in enumerate(names)
    ]


def method_name(run: Run) -> str:
    """What a method is called when nobody has given it a name: what was trained, not asked for."""
    method, objective = run.record["method"], trained_objective(run.record)
    if objective is None:
        under = f" under {method['criterion']}" if method["objective"] else ""
        return f"{run.record['arch']}{under}"
    if not _teaches(run.record):
        return "plain" if method["leaves"] == 1 else objective
    return " + ".join(dict.fromkeys([objective, *_added(run.record)]))


def _added(record: Dict[str, Any]) -> List[str]:
    """What options have added to the objective."""
    options = record["method"]["options"]
    return [name for option, name in ADDED.items() if options.get(option)]


def trained_objective(record: Dict[str, Any]) -> Optional[str]:
    """The objective; unset for a stock network, and where another criterion did not train it."""
    method = record["method"]
    ours = method.get("criterion") in (None, "online_kd")
    return method["objective"] if ours else None


def _teaches(record: Dict[str, Any]) -> bool:
    """Whether anything but the labels teaches."""
    objective, method = trained_objective(record), record["method"]
    if objective is None:
        return False
    if _added(record) or objective in TEACH_ONE_LEAF:
        return True
    return objective != CONTROL and method["leaves"] > 1


def _short(field: str) -> str:
    return field.rpartition(".")[2]
