"""``tsa-mt translate``: raw text in, raw text out, with a checkpoint or with an export."""

import argparse
import sys
from pathlib import Path
from typing import BinaryIO, List, Optional

from tqdm import tqdm

from tsa_mt.files import BLOCK, is_replaced
from tsa_mt.sources import branch_number
from tsa_mt.translate.lines import Source, open_source, open_target
from tsa_mt.translate.readers import find_reader, load_translator
from tsa_mt.translate.translator import Decoding, Hypothesis, Translator

PROGRAM = "tsa-mt translate"
NONE = Hypothesis((), "", float("-inf"))
"""Stands where a search found fewer translations than were asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a checkpoint, or the folder of an export")
    add("--input", metavar="F", help="text, one sentence a line (default: standard input)")
    add("--output", metavar="F", help="file to write (default: standard output)")
    add("--force", action="store_true", help="replace the output file if it exists")
    _add_model_arguments(parser)
    _add_search_arguments(parser)
    add("--quiet", action="store_true", help="report no progress; warnings are spoken anyway")


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--branch",
        type=branch_number,
        default=0,
        metavar="K",
        help="leaf of a tree (default: 0, the leader; -1 is the ensemble of all leaves, 'averaged' "
        "the leader of the moving average that pcl and mean_teacher keep)",
    )
    add(
        "--data",
        metavar="DIR",
        help="folder with the dictionaries and the subword model (default: the export, or the one "
        "that the checkpoint was trained on)",
    )
    add(
        "--moses",
        action="store_true",
        help="tokenise the input as Moses does and detokenise the output, for a model whose "
        "training text was tokenised",
    )
    add("--split-hyphens", action="store_true", help="with --moses: a-b is a @-@ b")
    add("--lowercase", action="store_true", help="lower-case the input")


def _add_search_arguments(parser: argparse.ArgumentParser) -> None:
    default = Decoding()
    numbers = (
        ("--beam", int, default.beam, "N", "beam size"),
        ("--lenpen", float, default.lenpen, "X", "length penalty: above 1 favours long ones"),
        ("--n-best", int, 1, "N", "translations of a line, as number, score and text"),
        ("--max-length", int, default.max_length, "N", "most pieces of a translation"),
        ("--batch-tokens", int, default.batch_tokens, "N", "most source tokens of a batch"),
        ("--window", int, 2000, "N", "lines that are read before they are translated"),
    )
    for flag, kind, value, metavar, text in numbers:
        parser.add_argument(
            flag, type=kind, default=value, metavar=metavar, help=f"{text} (default: {value})"
        )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads (default: one a core, or OMP_NUM_THREADS)"
    )


def run(args: argparse.Namespace) -> int:
    """Translates line by line.

    Raises:
        FileExistsError: The output file exists and ``--force`` is not given.
        FileNotFoundError: The model, the input or a file that belongs to the model is missing.
        ValueError: An argument is out of range, or the model cannot be read.
    """
    _check(args)
    translator = _load(args)
    with open_source(args.input and Path(args.input)) as stream:
        _translate(translator, args, stream)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuses what cannot work before a model is loaded."""
    find_reader(args.model)
    for name in ("beam", "n_best", "window"):
        if getattr(args, name) < 1:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag} is {getattr(args, name)}; it must be 1 or more")
    if args.n_best > args.beam:
        raise ValueError(f"--n-best is {args.n_best}, more than --beam, {args.beam}")
    if args.input and not Path(args.input).exists():
        raise FileNotFoundError(f"input {args.input} does not exist")
    if args.input and Path(args.input).is_dir():
        raise ValueError(f"input {args.input} is a folder; name a file")
    if args.input and Path(args.input).is_file():  # a pipe can be opened only once
        with open_source(Path(args.input)):
            pass
    if args.output:
        _check_output(Path(args.output), args.force)


def _check_output(path: Path, force: bool) -> None:
    if path.is_dir():
        raise FileExistsError(f"output {path} is a folder; name a file")
    if is_replaced(path) and not force:
        raise FileExistsError(f"output {path} exists; pass --force to replace it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder of output {path} does not exist")


def _load(args: argparse.Namespace) -> Translator:
    return load_translator(
        args.model,
        branch=args.branch,
        beam=args.beam,
        lenpen=args.lenpen,
        threads=args.threads,
        batch_tokens=args.batch_tokens,
        max_length=args.max_length,
        data=args.data,
        moses=args.moses,
        split_hyphens=args.split_hyphens,
        lowercase=args.lowercase,
    )


def _translate(translator: Translator, args: argparse.Namespace, stream: BinaryIO) -> None:
    source = Source(stream)
    with open_target(args.output and Path(args.output)) as write, _bar(stream, args.quiet) as bar:
        for window in source.windows(1 if _typed(stream) else args.window):
            first = source.lines - len(window) + 1
            _follow(translator, bar, first)
            found = translator.translate(window, args.n_best)
            write(_format(found, args.n_best, first))
            bar.update(source.lines - bar.n)  # batches have counted the parts of long lines
    if source.damaged:
        _say(
            f"{source.damaged:,} lines had bytes that are no UTF-8; each such byte is read as "
            f"U+FFFD"
        )


def _typed(stream: BinaryIO) -> bool:
    """Whether a person types the lines and waits for each."""
    return stream.isatty()


def _bar(stream: BinaryIO, quiet: bool) -> tqdm:
    """How many lines are done, on standard error: at once on a terminal, now and then in a log."""
    pause = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(
        desc=PROGRAM,
        total=_count_lines(stream),
        unit=" lines",
        mininterval=pause,
        maxinterval=pause,
        disable=quiet,
        file=sys.stderr,
    )


def _count_lines(stream: BinaryIO) -> Optional[int]:
    """Lines that are left in a file; unset for a pipe, which can be read only once."""
    if not stream.seekable():
        return None
    start, lines, block = stream.tell(), 0, b""
    while more := stream.read(BLOCK):
        lines, block = lines + more.count(b"\n"), more
    stream.seek(start)
    return lines + (not block.endswith(b"\n") if block else 0)


def _say(text: str) -> None:
    tqdm.write(f"{PROGRAM}: {text}", file=sys.stderr)


def _follow(translator: Translator, bar: tqdm, first: int) -> None:
    """Lets the translator report by the line numbers of the whole input."""

    def on_long(index: int, pieces: int, parts: int) -> None:
        _say(
            f"warning: line {first + index:,} has {pieces:,} pieces, more than the "
            f"{translator.limit:,} that the model reads; it is translated in {parts:,} parts"
        )

    translator.on_batch, translator.on_long = bar.update, on_long


def _format(found: List[List[Hypothesis]], n_best: int, first: int) -> List[str]:
    """The lines to write."""
    if n_best == 1:
        return [hypotheses[0].text for hypotheses in found]
    return [
        f"{number}\t{hypothesis.score:.4f}\t{hypothesis.text}"
        for number, hypotheses in enumerate(found, start=first)
        for hypothesis in [*hypotheses, *[NONE] * n_best][:n_best]
    ]
