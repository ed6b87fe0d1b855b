"""All objectives by name, and how one is built."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tsa_mt.objectives.base import Objective
from tsa_mt.objectives.consistency import wrapped
from tsa_mt.objectives.fusion import ROWS, FusionModules
from tsa_mt.objectives.late import begun_late
from tsa_mt.tree import Tree

logger = logging.getLogger(__name__)

OBJECTIVES: dict[str, type[Objective]] = {}

RENAMED = {
    "kdcl": (
        "kdcl_mean",
        "objective 'kdcl' is now called 'kdcl_mean': the mean logit teaches, as in a third party's "
        "code; the paper's own variants are kdcl_naive, kdcl_linear and kdcl_min_logit",
    )
}
"""By earlier name: the present one, and a sentence about it."""

LISTENERS: list[Callable[[], None]] = []
"""Called after every registration; command lines learn of late objectives so."""

Class = TypeVar("Class", bound=type[Objective])


def register_objective(name: str) -> Callable[[Class], Class]:
    """Class decorator that makes an objective available as ``--kd-objective name``.

    Raises:
        ValueError: The name is taken by another class.
    """

    def register(cls: Class) -> Class:
        known = OBJECTIVES.get(name)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise ValueError(f"objective {name!r} is registered twice: {known} and {cls}")
        cls.name = name
        OBJECTIVES[name] = cls
        for listener in LISTENERS:
            listener()
        return cls

    return register


def find_objective(name: str) -> type[Objective]:
    """The objective class of that name; an earlier name gives a warning.

    Raises:
        ValueError: There is none; the message lists the known ones.
    """
    name = _present_name(name)
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}; choose one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]


@functools.cache
def _present_name(name: str) -> str:
    """The present name; tells once what an earlier one is called now."""
    present, sentence = RENAMED.get(name, (name, ""))
    if sentence:
        logger.warning(sentence)
    return present


def taught_objectives() -> list[str]:
    """Names of the objectives that need a teacher."""
    return [name for name, cls in OBJECTIVES.items() if cls.needs_teacher]


def option_names(cls: type[Objective]) -> list[str]:
    """Names of an objective's options, in order of declaration."""
    return [option.name for option in dataclasses.fields(cls.Config)]


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuses options that objective ``name`` does not have.

    Raises:
        ValueError: Names the option, and the objectives that have it.
    """
    cls = find_objective(name)
    own = option_names(cls)
    for option in options:
        if option in own:
            continue
        owners = [other for other, cls in OBJECTIVES.items() if option in option_names(cls)]
        verb = "has" if len(owners) == 1 else "have"
        hint = f"; only {', '.join(owners)} {verb} it" if owners else ""
        raise ValueError(
            f"objective {cls.name!r} has no option {option!r}{hint}; "
            f"its options are: {', '.join(own) or 'none'}"
        )


def build_objective(
    name: str,
    tree: str | Tree,
    feature_dim: int,
    num_classes: int,
    label_smoothing: float = 0.0,
    trunk_dim: int | None = None,
    fusion: FusionModules = ROWS,
    leaf_dims: Sequence[int] | None = None,
    **options: Any,
) -> Objective:
    """Builds an objective by name, with the published value for every option left out.

    Args:
        name: A registered name, for instance ``"tsa"``.
        tree: A `Tree`, or a notation such as ``"0(1,1,1,1)"``.
        feature_dim: Width of a leaf's features.
        num_classes: Number of classes.
        label_smoothing: Mass taken from the true class in the task losses.
        trunk_dim: Width of the trunk's features; unset, that of a leaf's.
        fusion: Building blocks for trainable parts, by the kind of features.
        leaf_dims: Width of each leaf's features; unset, all are alike.
        **options: The objective's options (the command line's flags without ``--kd-``).

    Raises:
        ValueError: Unknown objective or option, malformed tree, or a value out of range.
    """
    cls = find_objective(name)
    check_options(name, options)
    config = cls.Config(**options)
    return wrapped(begun_late(cls, config), config)(
        tree if isinstance(tree, Tree) else Tree.parse(tree),
        feature_dim,
        num_classes,
        label_smoothing=label_smoothing,
        trunk_dim=trunk_dim,
        fusion=fusion,
        leaf_dims=leaf_dims,
        **options,
    )
