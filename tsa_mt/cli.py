"""The ``tsa-mt`` command: one table of commands, each in a module that is imported when it runs.

A command module has ``add_arguments(parser)`` and ``run(args)``, which returns the exit status.
What ``run`` raises about its input is printed as one sentence, without a stack trace.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from tsa_mt import __version__

# What a user can mend: printed as a sentence. Anything else is ours and keeps its stack trace.
USER_ERRORS = (ValueError, FileNotFoundError, FileExistsError, PermissionError)


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """For a command that takes none."""


def _print_user_dir(args: argparse.Namespace) -> int:
    print(Path(__file__).resolve().parent)
    return 0


def _add_tree_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tree", help="a notation such as '2(2(2,2),2(2,2))', or a preset's name")
    parser.add_argument(
        "--depth", type=int, default=6, metavar="N", help="layers a preset adapts to (default: 6)"
    )


def _print_tree(args: argparse.Namespace) -> int:
    from tsa_mt.tree import Tree

    tree = Tree.resolve(args.tree, args.depth)
    print(tree.draw())
    print(f"notation  {tree}")
    print(f"nodes     {len(tree.nodes)}")
    print(f"layers    {sum(node.layers for node in tree.nodes)}")
    print(f"leaves    {len(tree.leaves)}")
    path = " -> ".join(str(node.layers) for node in tree.leader)
    print(f"leader    {path}, {tree.depth} layers deep")
    return 0


USER_DIR = SimpleNamespace(add_arguments=_no_arguments, run=_print_user_dir)
TREE = SimpleNamespace(add_arguments=_add_tree_arguments, run=_print_tree)

# name -> (a module's name or the command itself, one line of help)
COMMANDS = {
    "tree": (TREE, "draw a tree and count its nodes, layers and leaves"),
    "doctor": ("tsa_mt.doctor", "check the installation: versions, fixes, devices"),
    "user-dir": (USER_DIR, "print what fairseq's --user-dir needs"),
    "objectives": ("tsa_mt.objectives.command", "what the leaves can learn: formulas and options"),
    "options": ("tsa_mt.flags", "list the plugin's own flags"),
    "plan": ("tsa_mt.plan.command", "what a training would cost, before anything is run"),
    "average": ("tsa_mt.export.average", "average the parameters of several checkpoints"),
    "export": ("tsa_mt.export.command", "write one leaf as a model of its own"),
    "translate": ("tsa_mt.translate.command", "translate text with a checkpoint or an export"),
    "classify": ("tsa_mt.vision.classify", "show what a trained image classifier sees in images"),
    "score": ("tsa_mt.evaluate.score_command", "score translations, and compare systems"),
    "compare": ("tsa_mt.evaluate.compare", "tabulate training runs over seeds, with tests"),
    "report": ("tsa_mt.evaluate.report.command", "write a page about training runs"),
    "forward-translate": (
        "tsa_mt.forward_translate.command",
        "translate a training set with a teacher, for sequence-level distillation",
    ),
}


def _list_commands() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items())


def _root_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tsa-mt",
        usage="tsa-mt COMMAND ...",
        description="Online knowledge distillation with tree-shaped networks.",
        epilog=f"commands:\n{_list_commands()}\n\n'tsa-mt COMMAND --help' describes one of them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tsa-mt {__version__}")
    parser.add_argument("command", metavar="COMMAND", help="what to do, see below")
    return parser


def _run_command(name: str, arguments: Sequence[str]) -> int:
    source, text = COMMANDS[name]
    command = importlib.import_module(source) if isinstance(source, str) else source
    parser = argparse.ArgumentParser(prog=f"tsa-mt {name}", description=text)
    command.add_arguments(parser)
    args = parser.parse_args(arguments)
    try:
        return command.run(args)
    except USER_ERRORS as error:
        print(f"tsa-mt {name}: error: {error}", file=sys.stderr)
        return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the command's name and its arguments; unset, those of the process.

    Returns:
        The exit status: 0, 1 for an error in the input. Wrong usage leaves with 2.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _root_parser()
    name = parser.parse_args(argv[:1]).command
    if name not in COMMANDS:
        parser.error(f"no command {name!r}; the commands are\n{_list_commands()}")
    return _run_command(name, argv[1:])


if __name__ == "__main__":
    sys.exit(main())
