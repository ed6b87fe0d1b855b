"""The ``tsa-mt`` command: one table of commands, each in a module that is imported when it runs.

A command module has ``add_arguments(parser)`` and ``run(args)``, which returns the exit status.
What ``run`` raises about its input is printed as one sentence, without a stack trace. fairseq takes
seconds to import, so only the commands that use its models register the plugin.
"""

import argparse
import contextlib
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from tsa_mt.version import __version__

# What a user can mend: printed as a sentence. Anything else is ours and keeps its stack trace.
USER_ERRORS = (ValueError, OSError)


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """For a command that takes none."""


def _print_user_dir(args: argparse.Namespace) -> int:
    print(Path(__file__).resolve().parent)
    return 0


def _add_tree_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "tree",
        help="a notation such as '2(2(2,2),2(2,2))', or '4(2/2(4,4),2/2(4,4))' with a '/' where "
        "decoders begin, or a preset's name",
    )
    parser.add_argument(
        "--depth", type=int, default=6, metavar="N", help="layers of the decoder (default: 6)"
    )
    parser.add_argument(
        "--encoder-depth",
        type=int,
        default=6,
        metavar="N",
        help="layers of the encoder, for a tree over the whole network (default: 6)",
    )


def _print_tree(args: argparse.Namespace) -> int:
    from tsa_mt.tree import Tree

    tree = Tree.resolve(args.tree, args.depth, args.encoder_depth)
    print(tree.draw())
    print(f"notation  {tree}")
    print(f"nodes     {len(tree.nodes)}")
    print(f"layers    {sum(node.layers for node in tree.nodes)}")
    print(f"leaves    {len(tree.leaves)}")
    path = " -> ".join(str(node) for node in tree.leader)
    print(f"leader    {path}, {tree.depth} layers deep")
    return 0


class Command(NamedTuple):
    """One command.

    Attributes:
        source: Its module's name, or the command itself.
        text: One line about it.
        fairseq: Whether its module uses fairseq, with the plugin registered.
    """

    source: Any
    text: str
    fairseq: bool = False


USER_DIR = SimpleNamespace(add_arguments=_no_arguments, run=_print_user_dir)
TREE = SimpleNamespace(add_arguments=_add_tree_arguments, run=_print_tree)

COMMANDS = {
    "tree": Command(TREE, "draw a tree and count its nodes, layers and leaves"),
    "doctor": Command("tsa_mt.doctor", "check the installation: versions, fixes, devices"),
    "user-dir": Command(USER_DIR, "print what fairseq's --user-dir needs"),
    "objectives": Command(
        "tsa_mt.objectives.command", "what the leaves can learn: formulas and options"
    ),
    "options": Command("tsa_mt.flags", "list the plugin's own flags", fairseq=True),
    "plan": Command(
        "tsa_mt.plan.command", "what a training would cost, before anything is run", fairseq=True
    ),
    "average": Command("tsa_mt.export.average", "average the parameters of several checkpoints"),
    "export": Command(
        "tsa_mt.export.command", "write one leaf as a model of its own", fairseq=True
    ),
    "translate": Command(
        "tsa_mt.translate.command", "translate text with a checkpoint or an export"
    ),
    "classify": Command(
        "tsa_mt.vision.classify",
        "show what a trained image classifier sees in images",
        fairseq=True,
    ),
    "score": Command("tsa_mt.evaluate.score_command", "score translations, and compare systems"),
    "compare": Command("tsa_mt.evaluate.compare", "tabulate training runs over seeds, with tests"),
    "report": Command("tsa_mt.evaluate.report.command", "write a page about training runs"),
    "forward-translate": Command(
        "tsa_mt.forward_translate.command",
        "translate a training set with a teacher, for sequence-level distillation",
        fairseq=True,
    ),
    "merge-data": Command(
        "tsa_mt.forward_translate.merge",
        "put training sets together, each pair once, for data diversification",
        fairseq=True,
    ),
}


def _list_commands() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(f"  {name:{width}}  {command.text}" for name, command in COMMANDS.items())


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


def _load(entry: Command) -> Any:
    if entry.fairseq:
        from tsa_mt import plugin

        plugin.register()
    if isinstance(entry.source, str):
        return importlib.import_module(entry.source)
    return entry.source


def _run_command(name: str, arguments: Sequence[str]) -> int:
    entry = COMMANDS[name]
    parser = argparse.ArgumentParser(prog=f"tsa-mt {name}", description=entry.text)
    try:
        command = _load(entry)
        command.add_arguments(parser)
        return command.run(parser.parse_args(arguments))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # nobody reads standard output any more, so nothing is to be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except USER_ERRORS as error:
        print(f"tsa-mt {name}: error: {error}", file=sys.stderr)
        return 1


def _print_any_file_name() -> None:
    """Let standard output take names of files that are not UTF-8, as the bytes that they are."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")


@contextlib.contextmanager
def _leaving_tidily() -> Iterator[None]:
    """Let SIGTERM end the command as an exception, so that no half-written file stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the command's name and its arguments; unset, those of the process.

    Returns:
        The exit status: 0, 1 for an error in the input, 128 and the number of a signal that ended
        it. Wrong usage leaves with 2.
    """
    _print_any_file_name()
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _root_parser()
    name = parser.parse_args(argv[:1]).command
    if name not in COMMANDS:
        parser.error(f"no command {name!r}; the commands are\n{_list_commands()}")
    with _leaving_tidily():
        return _run_command(name, argv[1:])


if __name__ == "__main__":
    sys.exit(main())
