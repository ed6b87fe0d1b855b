"""``tsa-mt export``: one branch of a checkpoint as a model that needs nothing of this project."""

import argparse
import math
import sys
from pathlib import Path
from typing import Optional, Union

from tsa_mt.averaged import keeps_average
from tsa_mt.export import ctranslate2, image
from tsa_mt.export.best_branch import best_branch
from tsa_mt.export.bridge import BRIDGE, read_bridged_teacher
from tsa_mt.export.certificate import (
    CERTIFICATE,
    Export,
    certify,
    decode_before,
    passing,
    refusal,
    summary,
    write_certificate,
)
from tsa_mt.export.checkpoint import load_checkpoint, options_of
from tsa_mt.export.folder import digest, new_folder, refuse_existing
from tsa_mt.export.formats import FORMATS
from tsa_mt.export.readme import write_readme
from tsa_mt.export.reference import (
    SENTENCES,
    Reference,
    from_certificate,
    from_data,
    from_files,
)
from tsa_mt.export.source import read_source
from tsa_mt.objectives import find_objective
from tsa_mt.sources import AVERAGED, WORD, branch_number
from tsa_mt.vision.checkpoint import is_image_checkpoint

BEST = "best"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "checkpoint", metavar="CKPT", help="a checkpoint, or the folder of an earlier export"
    )
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument(
        "--to",
        required=True,
        choices=list(dict.fromkeys([*FORMATS, *image.FORMATS])),
        help=f"format of the model; image classifiers have {', '.join(image.FORMATS)}",
    )
    parser.add_argument(
        "--branch",
        type=_branch,
        metavar="K",
        help="leaf to export (default: 0, the leader; of an objective that ships its moving "
        "average, such as pcl, 'averaged', the leader of that); 'best': the one with the "
        "lowest validation nll, read from the run's curves or log; 'bridge': the teacher of a "
        "semi-online student, improved by the bridge",
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
    _add_certificate_arguments(parser.add_argument_group("certificate"))


def _add_certificate_arguments(group) -> None:
    group.add_argument(
        "--reference",
        nargs=2,
        metavar=("SRC", "REF"),
        help="raw sentences and their translations to compare the export and the checkpoint on "
        "(default: the validation set of the checkpoint's data, else its test set)",
    )
    group.add_argument(
        "--reference-sentences",
        type=int,
        default=SENTENCES,
        metavar="N",
        help=f"use at most N of them, at even distances (default: {SENTENCES})",
    )
    group.add_argument(
        "--max-bleu-drop",
        type=float,
        metavar="X",
        help="write nothing if the export loses more than X BLEU, and say which quantizations "
        "would pass",
    )
    group.add_argument(
        "--no-certificate", action="store_true", help="do not compare, and write no certificate"
    )


def _branch(text: str) -> Union[int, str]:
    if text in (BEST, BRIDGE):
        return text
    try:
        return branch_number(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a leaf's number nor '{WORD}', '{BEST}' or '{BRIDGE}'"
        ) from None


def run(args: argparse.Namespace) -> int:
    """Exports, then prints every file with its size and SHA-256.

    Raises:
        FileExistsError: OUT exists and may not be replaced.
        FileNotFoundError: The checkpoint or a file that belongs to it is missing.
        ValueError: The model, the branch or the quantization is not possible in this format, there
            are no sentences to certify it with, or it loses more BLEU than it may.
    """
    _refuse_contradictions(args)
    if _is_for_images(args):
        _refuse_for_images(args)
        _choose_branch(args)
        print(f"{args.out}: {image.export_classifier(args)}")
    else:
        _refuse_quantization(args)
        refuse_existing(args.out, FORMATS[args.to].file, args.force)  # before the work
        _choose_branch(args)
        _export_text(args)
    _print_files(Path(args.out))
    return 0


def _refuse_contradictions(args: argparse.Namespace) -> None:
    limit = args.max_bleu_drop
    if limit is not None and (args.no_certificate or not (0 <= limit < math.inf)):
        why = "--no-certificate compares nothing" if args.no_certificate else "give 0 or more"
        raise ValueError(f"--max-bleu-drop {limit:g} is not possible: {why}")
    if args.reference and args.no_certificate:
        raise ValueError("--reference is for the certificate, which --no-certificate leaves out")
    if args.reference_sentences < 1:
        raise ValueError(f"--reference-sentences {args.reference_sentences}: it needs 1 or more")
    if args.teacher is not None and args.branch != BRIDGE:
        raise ValueError(f"--teacher {args.teacher} goes with --branch {BRIDGE} only")


def _is_for_images(args: argparse.Namespace) -> bool:
    """Whether the model is an image classifier: by the format, else by the checkpoint."""
    if args.to not in FORMATS:
        return True
    path = Path(args.checkpoint)
    return (
        args.to in image.FORMATS and path.is_file() and is_image_checkpoint(load_checkpoint(path))
    )


def _refuse_for_images(args: argparse.Namespace) -> None:
    for name in ("reference", "max_bleu_drop", "quantization", "data"):
        if getattr(args, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} is for translation models; --to {args.to} makes an "
                f"image classifier here"
            )


def _choose_branch(args: argparse.Namespace) -> None:
    """Replaces ``best``, and nothing, by the number of a branch."""
    if args.branch is None:
        args.branch = AVERAGED if _ships_average(args.checkpoint) else 0
    if args.branch == BEST:
        if Path(args.checkpoint).is_dir():
            raise ValueError(f"--branch {BEST}: {args.checkpoint} is an export, of a single branch")
        choice = best_branch(load_checkpoint(args.checkpoint), args.checkpoint)
        print(choice)
        args.branch = choice.branch


def _ships_average(path: str) -> bool:
    """Whether a checkpoint is of an objective whose average ships, and keeps one."""
    if not Path(path).is_file():
        return False
    checkpoint = load_checkpoint(path)
    objective = options_of(checkpoint, "model").get("kd_objective")
    if not objective or not find_objective(objective).ships_average:
        return False
    if not keeps_average(checkpoint["model"]):
        return False
    print(f"objective {objective} ships its moving average: --branch {WORD}; --branch 0 does not")
    return True


def _refuse_quantization(args: argparse.Namespace) -> None:
    quantizations = FORMATS[args.to].quantizations
    if args.quantization is not None and args.quantization not in quantizations:
        raise ValueError(
            f"--quantization {args.quantization} is not possible with --to {args.to}; "
            + (
                f"choose one of {', '.join(quantizations)}"
                if quantizations
                else "only ctranslate2 models are quantized"
            )
        )


def _export_text(args: argparse.Namespace) -> None:
    if args.branch == BRIDGE:
        plain, companions = read_bridged_teacher(args.checkpoint, args.teacher, args.data)
    else:
        plain, companions = read_source(args.checkpoint, args.branch, args.data)
    export = Export(
        plain, companions, args.checkpoint, args.branch, args.to, args.quantization, args.data
    )
    reference = None if args.no_certificate else _reference(args, export)
    chosen = FORMATS[args.to]
    with new_folder(args.out, chosen.file, args.force) as folder:
        export.fill(folder, args.quantization)
        certificate = None
        if reference is not None:
            certificate = _certificate(args, export, folder, reference)
        verdict = _verdict(certificate)
        usage = chosen.usage(companions)
        write_readme(folder, plain, companions, usage, args.quantization, verdict)
        if certificate is not None:
            write_certificate(certificate, folder)
    print(f"{args.out}: {plain.origin}, {plain.updates:,} updates, for {args.to}")
    if not companions.subwords:
        print(f"  no subword model was found in or above {companions.dictionaries[0].parent}")
    if certificate is not None:
        print(f"  {summary(certificate)}")


def _verdict(certificate: Optional[dict]) -> str:
    """The README's sentence about the certificate."""
    if certificate is None:
        return ""
    return f"Compared with the checkpoint (`{CERTIFICATE}`): {summary(certificate)}."


def _reference(args: argparse.Namespace, export: Export) -> Reference:
    """The sentences of the certificate.

    Raises:
        ValueError: There are none, or the only ones may not decide about a quantization.
    """
    if args.reference:
        source, target = args.reference
        found: Optional[Reference] = from_files(source, target, export.companions)
    else:
        found = from_data(export.companions, export.data_folders)
        found = found or from_certificate(Path(args.checkpoint) / CERTIFICATE, export.companions)
    if found is None:
        folders = " and ".join(map(str, export.data_folders))
        raise ValueError(
            f"there are no sentences to compare the export with the checkpoint on: {folders} has "
            f"no binarised valid or test split; name some with --reference SRC REF, or pass "
            f"--no-certificate"
        )
    if args.max_bleu_drop is not None and found.origin.get("split") == "test":
        raise ValueError(
            f"--max-bleu-drop chooses between models, and {found.origin['folder']} has a test set "
            f"only, which nothing may be chosen on; name other sentences with --reference SRC REF"
        )
    found = found.spread(args.reference_sentences)
    if len(found) < SENTENCES:
        print(
            f"tsa-mt export: warning: the certificate is about {found.name}; at least {SENTENCES} "
            f"make it mean something: --reference SRC REF names more",
            file=sys.stderr,
        )
    return found


def _certificate(
    args: argparse.Namespace, export: Export, folder: Path, reference: Reference
) -> dict:
    """Compares; raises ValueError if the export loses more than it may."""
    print(f"comparing with the checkpoint on {reference.name}", flush=True)
    before = decode_before(export, reference)
    certificate = certify(export, folder, reference, before, args.max_bleu_drop)
    if not certificate["passed"]:
        others = passing(export, reference, before, args.max_bleu_drop)
        raise ValueError(refusal(certificate, others))
    return certificate


def _print_files(folder: Path) -> None:
    rows = digest(folder)
    width = max(len(name) for name, _, _ in rows)
    for name, size, sha256 in rows:
        print(f"  {name:{width}}  {size:>12,} bytes  sha256 {sha256}")
    print(f"  {'total':{width}}  {sum(size for _, size, _ in rows):>12,} bytes")
