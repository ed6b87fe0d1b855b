"""Objective options as flat command-line fields, shared by every model that has an objective.

The fields are derived from the registry: ``--kd-objective`` and one ``--kd-NAME`` per option that
some objective has. All default to ``None``, which means the chosen objective's published value.
"""

import argparse
import dataclasses
from typing import Any, Dict, List, Optional, Tuple

from tsa_mt.objectives import OBJECTIVES, check_options, find_objective
from tsa_mt.objectives.config import shown
from tsa_mt.objectives.registry import taught_objectives

YES_NO = {"yes": True, "no": False, "true": True, "false": False}


def _registered_options() -> Dict[str, List[Tuple[str, dataclasses.Field]]]:
    """For every option name: the objectives that have it, with their fields."""
    known: Dict[str, List[Tuple[str, dataclasses.Field]]] = {}
    for objective, cls in OBJECTIVES.items():
        for option in dataclasses.fields(cls.Config):
            known.setdefault(option.name, []).append((objective, option))
    return known


def _help(owners: List[Tuple[str, dataclasses.Field]]) -> str:
    values = {shown(option.default) for _, option in owners}
    defaults = ", ".join(f"{name}: {shown(option.default)}" for name, option in owners)
    if len(values) == 1:
        defaults = values.pop()
    kind = " (yes|no)" if owners[0][1].type is bool else ""
    return f"{owners[0][1].metadata['help']}{kind} [unset = published value; {defaults}]"


def objective_fields() -> List[Tuple[str, Any, Any]]:
    """Fields for `dataclasses.make_dataclass`: ``kd_objective`` and every ``kd_OPTION``.

    Switches are text fields that take ``yes`` or ``no``, so that unset can mean the method's own.
    """
    fields: List[Tuple[str, Any, Any]] = [
        (
            "kd_objective",
            str,
            dataclasses.field(
                default="tsa",
                metadata={"help": f"what the leaves learn: {', '.join(OBJECTIVES)}"},
            ),
        ),
        (
            "kd_teacher",
            Optional[str],
            dataclasses.field(
                default=None,
                metadata={
                    "help": "checkpoint of the frozen teacher, several separated by ':' (the mean "
                    "of their probabilities); PATH:K another leaf of a tree, PATH:-1 all of them "
                    "together, PATH:averaged the leader of its moving average; for "
                    + ", ".join(taught_objectives())
                },
            ),
        ),
    ]
    for name, owners in _registered_options().items():
        kind = str if owners[0][1].type is bool else owners[0][1].type
        metadata = {"help": _help(owners)}
        fields.append(
            (f"kd_{name}", Optional[kind], dataclasses.field(default=None, metadata=metadata))
        )
    return fields


def chosen_options(config: argparse.Namespace) -> Dict[str, Any]:
    """The objective's options that were set on a flat model config, checked and converted.

    Raises:
        ValueError: An option that the chosen objective does not have (a teacher included), or a
            switch that is neither ``yes`` nor ``no``.
    """
    _refuse_idle_teacher(config)
    options = {}
    for name, owners in _registered_options().items():
        value = getattr(config, f"kd_{name}", None)
        if value is not None:
            options[name] = _switch(name, value) if owners[0][1].type is bool else value
    try:
        check_options(config.kd_objective, options)
    except ValueError as error:
        raise ValueError(f"{error} (on the command line each is --kd-OPTION)") from None
    return options


def _refuse_idle_teacher(config: argparse.Namespace) -> None:
    """A missing teacher is the criterion's complaint: decoding does without one."""
    teacher = getattr(config, "kd_teacher", None)
    if teacher and not find_objective(config.kd_objective).needs_teacher:
        raise ValueError(
            f"--kd-teacher is {teacher!r}, but objective {config.kd_objective!r} has no "
            f"teacher; those that have one: {', '.join(taught_objectives())}"
        )


def _switch(name: str, value: Any) -> bool:
    text = str(value).lower()
    if text not in YES_NO:
        raise ValueError(f"--kd-{name.replace('_', '-')} is {value!r}; it must be yes or no")
    return YES_NO[text]


def default_tree(objective: str) -> str:
    """The tree preset an objective is published with."""
    return find_objective(objective).default_tree
