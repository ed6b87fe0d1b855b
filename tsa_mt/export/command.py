"""``tsa-mt export``: one branch of a checkpoint as a model that needs nothing of this project."""

import argparse
from pathlib import Path

from tsa_mt.export import ctranslate2, fairseq, image
from tsa_mt.export.bridge import BRIDGE, read_bridged_teacher
from tsa_mt.export.companions import Companions
from tsa_mt.export.folder import digest, refuse_existing
from tsa_mt.export.leader import PlainTransformer
from tsa_mt.export.source import read_source


def _write_fairseq(
    plain: PlainTransformer, companions: Companions, args: argparse.Namespace
) -> None:
    fairseq.write_fairseq(plain, companions, args.out, args.force)


def _write_ctranslate2(
    plain: PlainTransformer, companions: Companions, args: argparse.Namespace
) -> None:
    ctranslate2.write_ctranslate2(plain, companions, args.out, args.force, args.quantization)


# format -> (the file by which its folders are recognised, writer, accepted quantizations)
FORMATS = {
    "fairseq": (fairseq.MODEL, _write_fairseq, ()),
    "ctranslate2": (ctranslate2.MODEL, _write_ctranslate2, ctranslate2.QUANTIZATIONS),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "checkpoint", metavar="CKPT", help="a checkpoint, or the folder of an earlier export"
    )
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument(
        "--to",
        required=True,
        choices=[*FORMATS, *image.FORMATS],
        help=f"format of the model; {', '.join(image.FORMATS)} are for image classifiers",
    )
    parser.add_argument(
        "--branch",
        type=_branch,
        default=0,
        metavar="K",
        help="leaf to export (default: 0, the leader), or 'bridge': the teacher of a semi-online "
        "student, improved by the bridge",
    )
    parser.add_argument(
        "--teacher",
        metavar="CKPT",
        help="with --branch bridge: the teacher (default: the one the student was trained with)",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="folder with the dictionaries and the subword model (default: the one the checkpoint "
        "was trained on)",
    )
    parser.add_argument(
        "--quantization",
        metavar="TYPE",
        help=f"type of the stored weights, with --to ctranslate2: "
        f"{', '.join(ctranslate2.QUANTIZATIONS)} (default: as in the checkpoint)",
    )
    parser.add_argument(
        "--ema",
        action="store_true",
        help="the averaged weights of an image classifier (--store-ema)",
    )
    parser.add_argument("--force", action="store_true", help="replace an earlier export in OUT")


def _branch(text: str) -> int | str:
    if text != BRIDGE and not text.removeprefix("-").isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a leaf's number nor '{BRIDGE}'")
    return text if text == BRIDGE else int(text)


def run(args: argparse.Namespace) -> int:
    """Exports, then prints every file with its size and SHA-256.

    Raises:
        FileExistsError: OUT exists and may not be replaced.
        FileNotFoundError: The checkpoint or a file that belongs to it is missing.
        ValueError: The model, the branch or the quantization is not possible in this format.
    """
    if args.to in image.FORMATS:
        print(f"{args.out}: {image.export_classifier(args)}")
        _print_files(Path(args.out))
        return 0
    model_file, write, quantizations = FORMATS[args.to]
    if args.quantization is not None and args.quantization not in quantizations:
        raise ValueError(
            f"--quantization {args.quantization} is not possible with --to {args.to}; "
            + (
                f"choose one of {', '.join(quantizations)}"
                if quantizations
                else "only ctranslate2 models are quantized"
            )
        )
    refuse_existing(args.out, model_file, args.force)  # before the work, not after it
    plain, companions = _read(args)
    write(plain, companions, args)
    print(f"{args.out}: {plain.origin}, {plain.updates:,} updates, for {args.to}")
    if not companions.subwords:
        print(f"  no subword model was found in or above {companions.dictionaries[0].parent}")
    _print_files(Path(args.out))
    return 0


def _read(args: argparse.Namespace) -> tuple[PlainTransformer, Companions]:
    if args.branch == BRIDGE:
        return read_bridged_teacher(args.checkpoint, args.teacher, args.data)
    if args.teacher is not None:
        raise ValueError(f"--teacher {args.teacher} goes with --branch {BRIDGE} only")
    return read_source(args.checkpoint, args.branch, args.data)


def _print_files(folder: Path) -> None:
    rows = digest(folder)
    width = max(len(name) for name, _, _ in rows)
    for name, size, sha256 in rows:
        print(f"  {name:{width}}  {size:>12,} bytes  sha256 {sha256}")
    print(f"  {'total':{width}}  {sum(size for _, size, _ in rows):>12,} bytes")
