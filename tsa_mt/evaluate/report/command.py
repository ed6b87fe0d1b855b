"""``tsa-mt report``: one page about one or several training runs."""

import argparse
from pathlib import Path

from tsa_mt.evaluate.report.comparison import read_group
from tsa_mt.evaluate.report.page import GENERATOR, build_page
from tsa_mt.files import write_text

_SIGN = f'content="{GENERATOR} '
_SIGN_WITHIN = 2000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run: the --save-dir of fairseq-train"
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=0,
        metavar="N",
        help="test sets that the paired bootstrap draws for every system, checkpoint and test set; "
        "1000 takes a while (default: 0, no tests)",
    )
    parser.add_argument(
        "--out",
        default="report.html",
        metavar="FILE",
        help="page to write; an earlier report is replaced (default: report.html)",
    )


def run(args: argparse.Namespace) -> int:
    """Reads the runs, writes the page and says where.

    Raises:
        FileExistsError: The file to write is there and is no report.
        FileNotFoundError: A run's folder or record is missing.
        ValueError: A record is damaged, or a run is named twice.
    """
    out = Path(args.out)
    _refuse_other_files(out)
    folders = [Path(path).resolve() for path in args.runs]
    twice = sorted({str(path) for path in folders if folders.count(path) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is named twice; give every run once")
    page = build_page(read_group(args.runs), args.samples)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    print(f"{out}: {len(args.runs)} run(s), {len(page.encode()):,} bytes; open it in a browser")
    return 0


def _refuse_other_files(out: Path) -> None:
    """A page of this command may be replaced, anything else may not."""
    if out.is_dir():
        raise FileExistsError(f"--out {out} is a folder; name a file, for instance report.html")
    if out.is_file():
        with open(out, encoding="utf-8", errors="replace") as file:
            if _SIGN not in file.read(_SIGN_WITHIN):
                raise FileExistsError(
                    f"--out {out} exists and is no report of tsa-mt; name another file, or "
                    f"remove it"
                )
