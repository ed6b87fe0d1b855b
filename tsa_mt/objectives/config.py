"""Options of objectives: declared in the class, checked once, shown as flags.

A method declares its options as class attributes, with the published values::

    class Mine(Objective):
        temperature = Option.temperature(3.0)
        decay = Option(0.9, "how much of the past remains", SHARE)

``Mine.Config`` is then a frozen dataclass of all of them, ``self.temperature`` the value in use and
``--kd-temperature`` the flag. An option that several methods have is made by one function of
`Option`, so that it means the same and has the same help everywhere.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Callable, Generic, NamedTuple, TypeVar, overload

Value = TypeVar("Value", bool, int, float, str)


class Range(NamedTuple):
    """Allowed values of an option: a test and the words for it."""

    test: Callable[[Any], bool]
    words: str


POSITIVE = Range(lambda value: 0 < value < math.inf, "greater than 0 and finite")
NOT_NEGATIVE = Range(lambda value: 0 <= value < math.inf, "0 or more and finite")
SHARE = Range(lambda value: 0 <= value <= 1, "between 0 and 1")


def option_field(default: Any, help: str, allowed: Range | None = None) -> Any:
    """A dataclass field with a help text and a range."""
    return dataclasses.field(default=default, metadata={"help": help, "allowed": allowed})


class Option(Generic[Value]):
    """One option of an objective; read from an objective it is the value in use.

    Args:
        default: The published value.
        help: One line for ``--help``.
        allowed: What the value must be. ``None`` allows every value of the type.
    """

    def __init__(self, default: Value, help: str, allowed: Range | None = None):
        self.default: Value = default
        self.help = help
        self.allowed = allowed
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, objective: None, owner: type) -> "Option[Value]": ...

    @overload
    def __get__(self, objective: Any, owner: type) -> Value: ...

    def __get__(self, objective: Any, owner: type) -> "Option[Value] | Value":
        if objective is None:
            return self
        value: Value = getattr(objective.config, self.name)
        return value

    def __set__(self, objective: Any, value: Value) -> None:
        raise AttributeError(f"option {self.name!r} is fixed; build another objective with it")

    @staticmethod
    def temperature(default: float) -> "Option[float]":
        """The temperature of an objective's distillation terms."""
        return Option(default, "softens every distribution in the distillation terms", POSITIVE)

    @staticmethod
    def strength(default: float) -> "Option[float]":
        """The factor of an objective's distillation terms. The task loss keeps weight 1."""
        text = "factor of the distillation terms beside the task loss"
        return Option(default, text, NOT_NEGATIVE)

    @staticmethod
    def share(default: float) -> "Option[float]":
        """The share of an objective's distillation terms. The task loss gets the rest."""
        return Option(default, "share of the distillation term; the task loss gets the rest", SHARE)

    @staticmethod
    def weight(default: float, help: str) -> "Option[float]":
        """The weight of one term: any number that is not negative."""
        return Option(default, help, NOT_NEGATIVE)

    @staticmethod
    def detach(default: bool) -> "Option[bool]":
        """Whether an objective's targets are constants."""
        return Option(default, "stop the gradient into the distribution that is imitated")

    @staticmethod
    def own_augmentation(default: bool) -> "Option[bool]":
        """Whether every leaf sees an augmentation of an image of its own."""
        text = "every leaf sees its own augmentation of an image; text has none"
        return Option(default, text)

    @staticmethod
    def average_decay(default: float) -> "Option[float]":
        """What remains of an averaged copy of the model after an update."""
        return Option(default, "decay per update of the averaged network that teaches", SHARE)

    @staticmethod
    def rampup(epochs: int, of: int) -> "Option[float]":
        """A ramp-up published in epochs, as the fraction of the training that it was."""
        text = "length of the ramp-up as a fraction of --max-update; 0 = full weight at once"
        return Option(epochs / of, text, SHARE)


INNER_SHARE = Range(lambda value: 0 < value < 1, "greater than 0 and less than 1")

SIMCUT = "weight of SimCut: a second pass over fewer words learns from the first; 0 = off"
START = "updates before any distillation: until then the leaves learn from the labels alone"
WORD_DROPOUT = "chance that a word's embedding is dropped from what is read in training; 0 = off"
RDROP = "weight of R-Drop: every batch passes twice under dropout, and the passes agree; 0 = off"


@dataclass(frozen=True)
class ObjectiveConfig:
    """Options that every objective has; `config_of` derives the others' dataclasses from it.

    Raises:
        ValueError: A value is out of its option's range.
    """

    rdrop_weight: float = option_field(0.0, RDROP, NOT_NEGATIVE)
    simcut_weight: float = option_field(0.0, SIMCUT, NOT_NEGATIVE)
    simcut_p: float = option_field(0.05, "chance that SimCut cuts a word", INNER_SHARE)
    word_dropout: float = option_field(0.0, WORD_DROPOUT, SHARE)
    start: int = option_field(0, START, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            allowed = field.metadata["allowed"]
            value = getattr(self, field.name)
            if allowed is not None and not allowed.test(value):
                raise ValueError(f"option {field.name!r} is {value!r}; it must be {allowed.words}")


def config_of(cls: type) -> type[ObjectiveConfig]:
    """The frozen dataclass of all options that a class and its bases declare."""
    options: dict[str, Option[Any]] = {}
    for base in reversed(cls.__mro__):
        options.update((k, v) for k, v in vars(base).items() if isinstance(v, Option))
    fields = [
        (name, type(option.default), option_field(option.default, option.help, option.allowed))
        for name, option in options.items()
    ]
    return dataclasses.make_dataclass(
        f"{cls.__name__}Config", fields, bases=(ObjectiveConfig,), frozen=True
    )


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
