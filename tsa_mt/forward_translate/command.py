"""``tsa-mt forward-translate``: a training set with a teacher's translations as its target side."""

import argparse
import shlex
import time
from pathlib import Path

from tsa_mt.files import digest
from tsa_mt.forward_translate.assembly import DATA, Line, assemble, translated_lines
from tsa_mt.forward_translate.corpus import Corpus
from tsa_mt.forward_translate.plan import Plan, Shelf
from tsa_mt.forward_translate.selection import METRICS, WAYS, Selection
from tsa_mt.forward_translate.translator import Translator
from tsa_mt.sources import Source, parse_sources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("data", metavar="DATA", help="folder that fairseq-preprocess wrote")
    parser.add_argument("out", metavar="OUT", help="folder to write; OUT/data-bin is to train on")
    parser.add_argument(
        "--teacher",
        required=True,
        metavar="CKPT[:BRANCH][:CKPT...]",
        help="checkpoint, several are an ensemble; of a tree the leader, leaf BRANCH, or -1, all "
        "leaves together",
    )
    parser.add_argument("-s", "--source-lang", metavar="L", help="(default: as DATA's files say)")
    parser.add_argument("-t", "--target-lang", metavar="L", help="(default: as DATA's files say)")
    parser.add_argument("--beam", type=int, default=5, help="beam size (default: 5)")
    parser.add_argument(
        "--nbest", type=int, default=1, metavar="N", help="hypotheses to keep (default: 1)"
    )
    parser.add_argument(
        "--select",
        choices=WAYS,
        default="model",
        help="which of them the student learns from: the most probable (model, the default), the "
        "most like the reference, or the most like the others (mbr)",
    )
    parser.add_argument(
        "--metric", choices=METRICS, default="chrf", help="what 'like' means (default: chrf)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=8000, help="tokens of one batch (default: 8000)"
    )
    parser.add_argument("--fp16", action="store_true", help="decode in half precision")
    parser.add_argument("--cpu", action="store_true", help="decode on the CPU")
    parser.add_argument(
        "--generate",
        default="",
        metavar="FLAGS",
        help="more flags of fairseq-generate, for instance --generate='--lenpen 0.6'",
    )
    parser.add_argument(
        "--keep-too-long",
        action="store_true",
        help="sentences too long for the teacher keep their reference (default: an error)",
    )
    parser.add_argument(
        "--chunk-sentences",
        type=int,
        default=10000,
        metavar="N",
        help="sentences that a kill can cost (default: 10000)",
    )
    parser.add_argument(
        "--distributed-world-size",
        type=int,
        default=1,
        metavar="N",
        help="number of workers that share the chunks; each runs this command with its own rank, "
        "and once more without both flags binarises (default: 1)",
    )
    parser.add_argument(
        "--distributed-rank", type=int, default=0, metavar="R", help="this worker, from 0"
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="processes that binarise (default: 1)"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT/data-bin if it exists")


def run(args: argparse.Namespace) -> int:
    """Translates what is not translated yet, and binarises when all of it is.

    Raises:
        FileExistsError: OUT/data-bin exists and ``--force`` is not given.
        FileNotFoundError: The corpus or a teacher is missing.
        ValueError: An argument is out of range, OUT holds chunks of another run, or sentences are
            too long for the teacher.
    """
    out = Path(args.out)
    _check(args, out)
    corpus = Corpus(Path(args.data), args.source_lang, args.target_lang)
    teacher = parse_sources(args.teacher)
    shelf = Shelf(out, _plan(args, corpus, teacher))
    device = ["--cpu"] if args.cpu else []
    translator = Translator(corpus, teacher, shelf.plan.flags + device, args.nbest)
    kept = {split: translator.too_long(split) for split in corpus.splits}
    _refuse_too_long(kept, translator.limit, args.keep_too_long)
    _translate(translator, shelf, args.distributed_rank, args.distributed_world_size)
    if args.distributed_world_size > 1:
        print(
            f"{len(shelf.missing())} of {len(shelf.plan.chunks)} chunks are not there yet; run "
            f"once more without --distributed-world-size when all workers are done"
        )
        return 0
    model = "+".join(f"{each.path}:{each.branch}" for each in teacher)
    selection = Selection(args.select, args.metric, corpus.plain)
    lines = translated_lines(corpus, shelf, selection, kept, model)
    made = assemble(corpus, lines, out, _about(args, shelf.plan, teacher, model), args.workers)
    total, references = sum(shelf.plan.sentences.values()), sum(map(len, kept.values()))
    print(f"{made}: {total:,} sentences, {references:,} of them with their reference")
    return 0


def _check(args: argparse.Namespace, out: Path) -> None:
    if (out / DATA).exists() and not args.force:
        raise FileExistsError(f"{out / DATA} exists; pass --force to replace it")
    for name, least in (
        ("beam", 1),
        ("nbest", 1),
        ("max_tokens", 1),
        ("chunk_sentences", 1),
        ("workers", 1),
    ):
        if getattr(args, name) < least:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} is {getattr(args, name)}; it must be {least} or more")
    if args.nbest > args.beam:
        raise ValueError(f"--nbest is {args.nbest}, but --beam {args.beam} finds no more than that")
    if args.select != "model" and args.nbest == 1:
        raise ValueError(
            f"--select {args.select} chooses among several hypotheses, and --nbest is 1; keep "
            f"more, for instance --nbest {args.beam}"
        )
    if not 0 <= args.distributed_rank < args.distributed_world_size:
        raise ValueError(
            f"--distributed-rank is {args.distributed_rank}; with --distributed-world-size "
            f"{args.distributed_world_size} it must be from 0 to {args.distributed_world_size - 1}"
        )


def _plan(args: argparse.Namespace, corpus: Corpus, teacher: list[Source]) -> Plan:
    for each in teacher:
        if not Path(each.path).is_file():
            raise FileNotFoundError(f"teacher {each.path} does not exist")
    flags = ["--beam", str(args.beam), "--max-tokens", str(args.max_tokens)]
    half = ["--fp16"] if args.fp16 else []
    return Plan(
        data=[digest(corpus.file(split, 0)) for split in corpus.splits],
        teacher=[str(Source(digest(each.path), each.branch)) for each in teacher],
        flags=[*flags, *half, *shlex.split(args.generate)],
        sentences={split: len(corpus.dataset(split, 0)) for split in corpus.splits},
        chunk_sentences=args.chunk_sentences,
        nbest=args.nbest,
    )


def _about(args: argparse.Namespace, plan: Plan, teacher: list[Source], model: str) -> dict:
    """What ``origin.json`` says of the lines."""
    checkpoints = [
        {"path": each.path, "branch": each.branch, "sha256": identity.partition(":")[0]}
        for each, identity in zip(teacher, plan.teacher, strict=True)
    ]
    choice = {"nbest": plan.nbest, "select": args.select, "metric": args.metric}
    return {
        "columns": list(Line._fields[2:]),
        "data": args.data,
        "models": {model: {"checkpoints": checkpoints, "flags": plan.flags, **choice}},
    }


def _refuse_too_long(kept: dict[str, set[int]], limit: int, allowed: bool) -> None:
    for split, numbers in kept.items():
        if numbers and not allowed:
            raise ValueError(
                f"{len(numbers)} sentences of {split} are longer than the {limit} tokens that the "
                f"teacher reads, the first is number {min(numbers)}; pass --keep-too-long to let "
                f"them keep their reference"
            )


def _translate(translator: Translator, shelf: Shelf, rank: int, world: int) -> None:
    chunks = shelf.plan.chunks
    mine, missing = chunks[rank::world], set(shelf.missing())
    for number, chunk in enumerate(mine, start=1):
        if chunk not in missing:
            continue
        start = time.monotonic()
        found = translator.translate(chunk)
        shelf.put(chunk, found)
        seconds = time.monotonic() - start
        print(f"chunk {number} of {len(mine)}: {len(found)} sentences, {seconds:.1f} s", flush=True)
