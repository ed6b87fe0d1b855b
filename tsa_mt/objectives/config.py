"""Options of objectives: frozen dataclasses whose fields carry help, published value and range.

An option that several objectives have is made by one function here, so that it means the same and
has the same help everywhere.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional


class Range(NamedTuple):
    """What an option may be: a test and the words for it."""

    test: Callable[[Any], bool]
    words: str


POSITIVE = Range(lambda value: 0 < value < math.inf, "greater than 0 and finite")
NOT_NEGATIVE = Range(lambda value: 0 <= value < math.inf, "0 or more and finite")
SHARE = Range(lambda value: 0 <= value <= 1, "between 0 and 1")


def option(default: Any, help: str, allowed: Optional[Range] = None) -> Any:
    """A field of an objective's config.

    Args:
        default: The published value.
        help: One line for ``--help``.
        allowed: What the value must be; ``None`` when any will do.
    """
    return dataclasses.field(default=default, metadata={"help": help, "allowed": allowed})


def temperature_option(default: float) -> Any:
    """The temperature of an objective's distillation terms."""
    return option(default, "softens every distribution in the distillation terms", POSITIVE)


def strength_option(default: float = 1.0) -> Any:
    """The factor of an objective's distillation terms; the task loss keeps weight 1."""
    return option(default, "factor of the distillation terms beside the task loss", NOT_NEGATIVE)


def share_option(default: float) -> Any:
    """The share of an objective's distillation terms; the task loss gets the rest."""
    return option(default, "share of the distillation term; the task loss gets the rest", SHARE)


def detach_option(default: bool) -> Any:
    """Whether an objective's targets are constants."""
    return option(default, "stop the gradient into the distribution that is imitated")


def own_augmentation_option(default: bool) -> Any:
    """Whether every leaf sees an augmentation of an image of its own."""
    return option(default, "every leaf sees its own augmentation of an image; text has none")


RDROP = "weight of R-Drop: every batch passes twice under dropout, and the passes agree; 0 = off"


@dataclass(frozen=True)
class ObjectiveConfig:
    """Options of an objective; every field has a default (the published value) and a help text.

    Raises:
        ValueError: A value is out of its option's range.
    """

    rdrop_weight: float = option(0.0, RDROP, NOT_NEGATIVE)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            allowed = field.metadata.get("allowed")
            if allowed is not None:
                value = getattr(self, field.name)
                require(allowed.test(value), field.name, value, allowed.words)


def rampup_option(epochs: int, of: int) -> Any:
    """A ramp-up published in epochs, as the fraction of the training that it was."""
    return option(epochs / of, RAMPUP, SHARE)


RAMPUP = "length of the ramp-up as a fraction of --max-update; 0 = full weight at once"


@dataclass(frozen=True)
class RampedConfig(ObjectiveConfig):
    """Options of an objective whose distillation terms grow during the first part of training."""

    rampup: float = option(0.0, RAMPUP, SHARE)
    rampup_updates: int = option(
        0, "length of the ramp-up in updates; 0 = that fraction of --max-update", NOT_NEGATIVE
    )


def require(condition: bool, option: str, value: Any, allowed: str) -> None:
    """Checks a config value.

    Raises:
        ValueError: With the option's name, the value and what is allowed.
    """
    if not condition:
        raise ValueError(f"option {option!r} is {value!r}; it must be {allowed}")


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
