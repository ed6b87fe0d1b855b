"""``tsa-mt objectives``: what the leaves can learn, from the registry and its docstrings."""

import argparse
import dataclasses
import re
import sys
from typing import Any, List, Tuple, Type

from tsa_mt.objectives import OBJECTIVES, Objective, find_objective
from tsa_mt.objectives.config import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("name", nargs="?", help="show this objective in full; unset, list all")


def run(args: argparse.Namespace) -> int:
    """Prints the list of all objectives, or everything about one.

    Raises:
        ValueError: There is no objective of that name.
    """
    print(describe(args.name) if args.name else overview())
    return 0


def overview() -> str:
    """Every objective with its title, its options and its source."""
    blocks = []
    for name, cls in OBJECTIVES.items():
        title, body = _documentation(cls)
        options = ", ".join(f"{key}={shown(value)}" for key, _, value in _options(cls))
        blocks.append(
            f"{name}\n  {title}\n  options  {options}\n  tree     {cls.default_tree}\n"
            f"  source   {', '.join(_links(title + body))}"
        )
    hint = "'tsa-mt objectives NAME' shows the formula and the meaning of the options."
    return "\n\n".join([*blocks, hint])


def describe(name: str) -> str:
    """Citation, formula, gradient routing and options of one objective.

    Raises:
        ValueError: There is no objective of that name; the message lists the known ones.
    """
    cls = find_objective(name)
    title, body = _documentation(cls)
    flags = [
        f"  --kd-{key.replace('_', '-')} {shown(value)}\n      {text}"
        for key, text, value in _options(cls)
    ]
    return "\n".join(
        [
            f"--kd-objective {name}\n\n{title}\n\n{body}\n",
            f"Tree, unless --tree says otherwise: {cls.default_tree}",
            f"Needs a teacher: {'yes, --kd-teacher' if cls.needs_teacher else 'no'}",
            "\nOptions, with the published values:",
            *flags,
        ]
    )


def _documentation(cls: Type[Objective]) -> Tuple[str, str]:
    """Title (the first paragraph, on one line) and the rest of an objective's module docstring."""
    text = sys.modules[cls.__module__].__doc__ or cls.__doc__ or ""
    title, _, body = text.strip().partition("\n\n")
    return " ".join(title.split()), body.strip()


def _links(text: str) -> List[str]:
    """Addresses in a text, each once."""
    return list(dict.fromkeys(link.rstrip(".,;)") for link in re.findall(r"https://\S+", text)))


def _options(cls: Type[Objective]) -> List[Tuple[str, str, Any]]:
    """Name, help and published value of every option."""
    return [(f.name, f.metadata["help"], f.default) for f in dataclasses.fields(cls.Config)]
