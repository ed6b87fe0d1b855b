"""Prepare a corpus for fairseq: one command from public files to data-bin and a manifest.

    python data-prep/prepare.py RECIPE --out DIR [--from-local DIR] [--splits train,valid,test]

Started again it continues where it was stopped, and does nothing where nothing is to be done.
`data-prep/README.md` lists the recipes and explains the options.
"""

import argparse
import errno
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from dataprep import recipe as recipes  # noqa: E402
from dataprep.errors import DataError  # noqa: E402
from dataprep.pipeline import FEWEST, Options, prepare  # noqa: E402
from dataprep.pool import available_cores  # noqa: E402

from tsa_mt.textfile import TextError  # noqa: E402

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    new = argparse.ArgumentParser(prog="prepare.py", description="Prepare a corpus for fairseq.")
    new.add_argument(
        "recipe",
        metavar="RECIPE",
        help=f"one of {', '.join(recipes.names())}; or a path to a .yaml file",
    )
    new.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the result goes")
    new.add_argument(
        "--from-local",
        type=Path,
        metavar="DIR",
        help="take files from this folder "
        "(archives, or what is in them, compressed or not) and download nothing",
    )
    new.add_argument(
        "--splits",
        nargs="+",
        metavar="SPLIT",
        help="prepare only these splits; "
        "without train the preparation stops before subwords, unless --vocab-from",
    )
    new.add_argument(
        "--preparation",
        metavar="NAME",
        help="published or modern; default: the recipe's own choice",
    )
    new.add_argument(
        "--vocab-from",
        type=Path,
        metavar="DIR",
        help="use the subword model and the dictionaries of a prepared folder",
    )
    new.add_argument(
        "--shards",
        type=int,
        default=1,
        metavar="N",
        help="deal the training data out to N folders data-bin0, data-bin1, ... (default 1)",
    )
    new.add_argument(
        "--slice",
        metavar="I/N",
        help="prepare only slice I (from 0) of N of the "
        "training text, e.g. in one task of a Slurm array, with --vocab-from",
    )
    new.add_argument(
        "--workers",
        type=int,
        default=available_cores(),
        metavar="N",
        help="worker processes (default: all cores, %(default)s here)",
    )
    new.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="give up a mirror that sends nothing for so long (default %(default)s)",
    )
    new.add_argument(
        "--any-checksum",
        action="store_true",
        help="accept files whose checksum is not the published one; the manifest says so",
    )
    new.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one setting of the recipe, e.g. "
        "preparations.modern.subword.sentencepiece.vocab_size=4000",
    )
    own = new.add_argument_group("your own files (RECIPE custom)")
    own.add_argument("--source-lang", metavar="CODE")
    own.add_argument("--target-lang", metavar="CODE")
    for split in ("train", "valid", "test"):
        own.add_argument(
            f"--{split}",
            nargs="+",
            type=Path,
            metavar="FILE",
            help="a table with tabs or a translation memory (TMX), or two aligned files, text or "
            "SGML; plain, gz, xz, bz2 or zst; pipes, too",
        )
    own.add_argument(
        "--columns",
        nargs=2,
        metavar=("SOURCE", "TARGET"),
        help="columns of a table: numbers from 1, or names in its first line (needed where there "
        "are more than two, unless the first line names the languages)",
    )
    own.add_argument(
        "--tmx-languages",
        nargs=2,
        metavar=("SOURCE", "TARGET"),
        help="language tags to take from a translation memory, where they are not the languages' "
        "codes",
    )
    return new


def overrides(arguments: argparse.Namespace) -> Dict[str, Any]:
    """The settings to change in the recipe, by dotted path."""
    found: Dict[str, Any] = {}
    for assignment in arguments.overrides:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise DataError(f"--set {assignment!r} must look like KEY=VALUE")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise DataError(f"--set {assignment!r}: {value!r} is not a YAML value") from None
    return found


def own_files(arguments: argparse.Namespace) -> Dict[str, Any]:
    """The settings that make the recipe custom out of a person's files."""
    given = {name: getattr(arguments, name) for name in ("train", "valid", "test")}
    flags = ("source_lang", "target_lang", *given, "columns", "tmx_languages")
    asked = [f"--{flag.replace('_', '-')}" for flag in flags if getattr(arguments, flag)]
    if arguments.recipe != "custom":
        if asked:
            raise DataError(
                f"{', '.join(asked)} belong to the recipe custom, not to {arguments.recipe}"
            )
        return {}
    if not (arguments.source_lang and arguments.target_lang and any(given.values())):
        raise DataError(
            "custom needs --source-lang, --target-lang and at least one of --train, "
            "--valid and --test"
        )
    pair = [arguments.source_lang, arguments.target_lang]
    chosen = {
        "columns": dict(zip(pair, map(_column, arguments.columns or ()))),
        "tags": dict(zip(pair, arguments.tmx_languages or ())),
    }
    splits = {
        name: {"pieces": [{**_piece(name, files, pair), **chosen}]}
        for name, files in given.items()
        if files
    }
    if "train" in splits and "valid" not in splits:
        splits["valid"] = {"hold_out": {"per_mille": 5, "by": pair[0], "at_least": FEWEST}}
    return {"source": pair[0], "target": pair[1], "splits": splits}


def _column(text: str) -> Union[int, str]:
    """A column by number, which recipes count from 0, or by name."""
    if not text.isdecimal():
        return text
    if int(text) < 1:
        raise DataError(f"--columns {text}: columns are counted from 1")
    return int(text) - 1


def _piece(split: str, files: List[Path], pair: List[str]) -> Dict[str, Any]:
    """One piece of one's own; its format follows from the content of the files."""
    # a pipe such as /dev/fd/63 would be resolved to a name that cannot be opened
    paths = [str(path.absolute()) for path in files]
    if len(files) > 2:
        raise DataError(
            f"--{split} takes two aligned files, or one table or translation memory with both "
            f"sides, got {' '.join(map(str, files))}"
        )
    both = len(files) == 1
    return {"name": split, "files": paths[0] if both else dict(zip(pair, paths, strict=True))}


def options(arguments: argparse.Namespace) -> Options:
    """What was asked for, checked."""
    for name in ("shards", "workers"):
        if getattr(arguments, name) < 1:
            raise DataError(f"--{name} is {getattr(arguments, name)}, must be at least 1")
    if arguments.timeout <= 0:
        raise DataError(f"--timeout is {arguments.timeout}, must be more than 0 seconds")
    portion = _portion(arguments.slice) if arguments.slice else None
    splits = [name for group in arguments.splits or () for name in group.split(",") if name]
    return Options(
        out=arguments.out,
        local=arguments.from_local,
        splits=splits or None,
        preparation=arguments.preparation,
        portion=portion,
        vocab_from=arguments.vocab_from,
        shards=arguments.shards,
        workers=arguments.workers,
        any_checksum=arguments.any_checksum,
        timeout=arguments.timeout,
        say=lambda message: print(message, flush=True),
    )


def _portion(text: str) -> Tuple[int, int]:
    """Read ``I/N``."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise DataError(f"--slice {text!r} must look like I/N with I from 0 to N-1")
    return int(found[1]), int(found[2])


def run(arguments: argparse.Namespace) -> None:
    """Prepare, and say what came of it."""
    recipe = recipes.load(arguments.recipe, {**own_files(arguments), **overrides(arguments)})
    manifest = prepare(recipe, options(arguments))
    print(f"see {arguments.out / 'report.md'}")
    if manifest["complete"]:
        print(f"train in {arguments.out} with\n  {manifest['train']}")


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line; problems become one sentence and exit status 1."""
    arguments = parser().parse_args(argv)
    try:
        run(arguments)
    except (DataError, TextError) as fault:
        print(f"prepare.py: error: {fault}", file=sys.stderr)
    except OSError as fault:
        if fault.errno in FULL:
            fault = (
                f"no space left for {arguments.out} ({fault.strerror}); make room and start "
                "again, finished parts are kept"
            )
        print(f"prepare.py: error: {fault}", file=sys.stderr)
    except KeyboardInterrupt:
        print("prepare.py: stopped; start again to continue", file=sys.stderr)
        return 130
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
