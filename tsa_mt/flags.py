"""The ``tsa-mt options`` command: every flag that this plugin adds to fairseq's commands."""

import argparse
import dataclasses

from tsa_mt.criterion import OnlineKDConfig
from tsa_mt.objectives.config import shown
from tsa_mt.translation.model import TreeTransformerConfig
from tsa_mt.vision.model import TreeClassifierConfig
from tsa_mt.vision.optimizer import MomentumSGDConfig
from tsa_mt.vision.schedule import MultistepConfig
from tsa_mt.vision.task import ImageClassificationConfig

COMPONENTS = (
    ("model", TreeTransformerConfig),
    ("criterion", OnlineKDConfig),
    ("image model", TreeClassifierConfig),
    ("image task", ImageClassificationConfig),
    ("optimizer momentum_sgd", MomentumSGDConfig),
    ("schedule multistep", MultistepConfig),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``tsa-mt options``."""
    parser.add_argument(
        "name", nargs="?", help="show only flags with this in their name, e.g. kd-weight"
    )


def run(args: argparse.Namespace) -> int:
    """Prints every flag of this plugin with its help and default.

    Raises:
        ValueError: No flag's name contains the given text.
    """
    found = 0
    for title, config in COMPONENTS:
        lines = _flag_lines(config, args.name or "")
        found += len(lines)
        if lines:
            print(f"{title} flags ({config.__name__})\n" + "\n".join(lines) + "\n")
    if not found:
        raise ValueError(f"no flag contains {args.name!r}; `tsa-mt options` lists all of them")
    return 0


def _flag_lines(config: type, part: str) -> list[str]:
    lines = []
    for option in dataclasses.fields(config):
        flag = "DATA" if option.name == "data" else "--" + option.name.replace("_", "-")
        text = option.metadata.get("help")
        if text and part.strip("-").replace("_", "-") in flag and option.name != "_name":
            lines.append(f"  {flag}\n      {text}{_default_note(option)}")
    return lines


def _default_note(option: dataclasses.Field) -> str:
    """The default in brackets, '' where the help says what unset means or there is none."""
    value = option.default
    if option.default_factory is not dataclasses.MISSING:
        value = ",".join(map(str, option.default_factory()))
    return "" if value in (None, "", "???") else f" [default {shown(value)}]"
