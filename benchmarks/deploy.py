"""Sentences per second on CPU: what is shipped against what was trained.

    python benchmarks/deploy.py --checkpoint CHECKPOINT [--data DATA-BIN]  # a trained tree
    python benchmarks/deploy.py                              # none: random weights, forced length

Five systems translate the same sentences with the same beam and the same tokens in a batch:

- ``tree``: ``fairseq-generate`` with the tree's checkpoint through the plugin,
- ``export``: ``fairseq-generate`` with the leader exported as a stock fairseq checkpoint,
- ``plain``: ``fairseq-generate`` with stock fairseq's own ``transformer`` of the leader's size,
  built by fairseq from options and filled with the leader's weights, so that it says the same,
- ``CTranslate2 float32`` and ``CTranslate2 int8``: the exported leader in CTranslate2, searched as
  ``tsa-mt translate`` does.

The models are loaded once a round by `fairseq_cli.generate.main`, but what is counted is the time
that it reports itself: beam search alone, without loading, batching and spelling. CTranslate2 is
counted from pieces to text, with all of that. The systems take turns, one round warms up; printed
are medians over the rounds and, for ratios, the smallest and largest.

With a trained checkpoint the sentences come from its test set, and BLEU is compared. Without one
the weights are random, so that translations would not end: every one is forced to ``--length``
pieces in every system, CTranslate2's additional pass that gives cut-off translations the score of
their end symbol included. Speed is then that of the architecture, text is compared, BLEU is not.

Bars, of which a missed one makes the exit status 1: CTranslate2 int8 at least 4 times as fast as
the tree in fairseq-generate and, if trained, at most 0.3 BLEU below it; the exported checkpoint
takes at most 2 % longer than the plain model; tree, export and plain say the same, piece by piece.
"""

import argparse
import logging
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from fairseq import options, tasks  # noqa: E402
from fairseq.data import Dictionary, data_utils  # noqa: E402
from fairseq.dataclass.utils import convert_namespace_to_omegaconf  # noqa: E402
from fairseq.logging.meters import StopwatchMeter  # noqa: E402
from fairseq_cli import generate, preprocess  # noqa: E402

from tsa_mt.evaluate.score import score  # noqa: E402
from tsa_mt.export.companions import Companions  # noqa: E402
from tsa_mt.export.ctranslate2 import convert  # noqa: E402
from tsa_mt.export.fairseq import MODEL, write_fairseq  # noqa: E402
from tsa_mt.export.leader import PlainTransformer  # noqa: E402
from tsa_mt.export.source import read_source  # noqa: E402
from tsa_mt.translate import load_translator  # noqa: E402
from tsa_mt.translate.subwords import find_codec  # noqa: E402

LANGUAGES = ("xx", "yy")
TREE, EXPORT, PLAIN = "tree", "export", "plain"
FLOAT, INT8 = "CTranslate2 float32", "CTranslate2 int8"
FASTER, SLOWER, BLEU_DROP = 4.0, 1.02, 0.3
WORDS = (5, 45)
"""Shortest and longest of the made-up sources; their mean is about that of IWSLT 2014's."""


@dataclass
class Workload:
    """Models and sentences.

    Attributes:
        checkpoint: The tree.
        data: Binarised sentences, as the split ``test``.
        sources: Their sources, as pieces.
        targets: Their references as pieces; empty where the model is not trained.
        search: Options of `load_translator` for the search.
        threads: Threads that all systems compute with.
    """

    checkpoint: Path
    data: Path
    sources: List[List[str]]
    targets: List[List[str]]
    search: Dict[str, float]
    threads: int

    @property
    def trained(self) -> bool:
        """Whether translations end by themselves and are worth scoring."""
        return bool(self.targets)


@dataclass
class Result:
    """What a system did in all rounds.

    Attributes:
        seconds: Time of each round after the first.
        tokens: What it said in the last round, in the order of the sentences.
    """

    seconds: List[float] = field(default_factory=list)
    tokens: List[Tuple[str, ...]] = field(default_factory=list)


class Stopwatch(StopwatchMeter):
    """The stopwatch of fairseq-generate, with a clock of ours, which remembers its last time."""

    clock: Callable[[], float] = staticmethod(time.perf_counter)
    seconds = 0.0

    def start(self):
        """Starts it."""
        self.start_time = self.clock()

    def stop(self, n=1, prehook=None):
        """Stops it and adds what it measured."""
        self.sum += self.clock() - self.start_time
        self.n += n
        Stopwatch.seconds = self.sum


# --- workloads ----------------------------------------------------------------------------------


def trained_workload(args: argparse.Namespace, folder: Path) -> Workload:
    """A trained checkpoint and evenly spaced sentences of its test set."""
    plain, companions = read_source(args.checkpoint, 0, args.data)
    source, target = (Dictionary.load(str(path)) for path in companions.dictionaries)
    stem = companions.dictionaries[0].parent / f"{args.subset}.{'-'.join(companions.languages)}"
    sides = []
    for language, dictionary in zip(companions.languages, (source, target), strict=True):
        rows = data_utils.load_indexed_dataset(f"{stem}.{language}", dictionary)
        if rows is None:
            raise SystemExit(f"deploy.py: error: {stem}.{language} is no binarised test set")
        step = max(1, len(rows) // args.sentences)
        chosen = range(0, min(len(rows), step * args.sentences), step)
        sides.append([dictionary.string(rows[number]).split() for number in chosen])
    data = binarise(sides, companions, folder)
    search = {"beam": args.beam, "batch_tokens": args.batch_tokens}
    return Workload(Path(args.checkpoint), data, *sides, search, args.threads)


def random_workload(args: argparse.Namespace, folder: Path) -> Workload:
    """A tree with random weights, and made-up sentences."""
    dictionary = Dictionary()
    for number in range(args.vocabulary - len(dictionary)):
        dictionary.add_symbol(f"w{number}", 1)
    paths = tuple(folder / f"dict.{language}.txt" for language in LANGUAGES)
    for path in paths:
        dictionary.save(str(path))
    random.seed(1)
    words = dictionary.symbols[dictionary.nspecial :]
    sources = [random.choices(words, k=random.randint(*WORDS)) for _ in range(args.sentences)]
    data = binarise([sources, sources], Companions(LANGUAGES, paths, {}), folder)
    search = {"beam": args.beam, "batch_tokens": args.batch_tokens}
    search |= {"min_length": args.length, "max_length": args.length}
    checkpoint = folder / "tree.pt"
    flags = ["--arch", f"tree_transformer_{args.size}", "--criterion", "online_kd"]
    flags += ["--kd-objective", "tsa", "--share-decoder-input-output-embed"]
    torch.manual_seed(1)
    save_model(training_options(data, LANGUAGES, flags), checkpoint, None)
    return Workload(checkpoint, data, sources, [], search, args.threads)


def binarise(sides: Sequence[List[List[str]]], companions: Companions, folder: Path) -> Path:
    """Runs fairseq-preprocess on pieces, with dictionaries that are there already."""
    for language, rows in zip(companions.languages, sides, strict=True):
        text = "".join(" ".join(row) + "\n" for row in rows)
        (folder / f"pieces.{language}").write_text(text, encoding="utf-8")
    source, target = companions.languages
    arguments = ["-s", source, "-t", target, "--testpref", str(folder / "pieces")]
    for flag, path in zip(("--srcdict", "--tgtdict"), companions.dictionaries, strict=True):
        arguments += [flag, str(path)]
    arguments += ["--destdir", str(folder / "data-bin")]
    preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
    return folder / "data-bin"


def training_options(data: Path, languages: Tuple[str, str], flags: List[str]) -> Namespace:
    """The options that ``fairseq-train`` would have and store."""
    source, target = languages
    arguments = [str(data), "-s", source, "-t", target, "--max-tokens", "1000", *flags]
    return options.parse_args_and_arch(options.get_training_parser(), arguments)


def save_model(args: Namespace, path: Path, weights: Optional[dict]) -> None:
    """Lets fairseq build a model, and saves it as a checkpoint the way fairseq 0.10 did."""
    config = convert_namespace_to_omegaconf(args)
    model = tasks.setup_task(config.task).build_model(config.model)
    if weights is not None:
        model.load_state_dict(dict(weights))
    history = [{"num_updates": 0, "criterion_name": "", "lr_scheduler_state": {}}]
    state = {"args": args, "model": model.state_dict(), "optimizer_history": history}
    torch.save({**state, "extra_state": {"epoch": 1}}, path)


# --- systems ------------------------------------------------------------------------------------


def make_systems(work: Workload, folder: Path) -> Dict[str, Callable[[], Tuple[float, list]]]:
    """All systems by name; each, called, translates all sentences once."""
    plain, companions = read_source(work.checkpoint, 0, work.data)
    export = write_fairseq(plain, companions, folder / "export")
    stock = folder / "plain.pt"
    save_plain(plain, companions, work.data, stock)
    checkpoints = {TREE: work.checkpoint, EXPORT: export / MODEL, PLAIN: stock}
    systems = {
        name: lambda path=path: run_generate(work, companions, path, folder / "log")
        for name, path in checkpoints.items()
    }
    for name, kind in ((FLOAT, "float32"), (INT8, "int8")):
        model = convert(export, folder / kind, kind)
        translator = load_translator(model, threads=work.threads, **work.search)
        systems[name] = lambda translator=translator: run_translator(translator, work.sources)
    return systems


def save_plain(plain: PlainTransformer, companions: Companions, data: Path, path: Path) -> None:
    """A stock Transformer of the leader's size with the leader's weights, without the exporter."""
    args = training_options(data, companions.languages, ["--arch", "transformer"])
    vars(args).update(plain.options)
    save_model(args, path, plain.weights)


def run_generate(work: Workload, companions: Companions, model: Path, logs: Path):
    """fairseq-generate once; its seconds and what it said."""
    source, target = companions.languages
    arguments = [str(work.data), "--path", str(model), "-s", source, "-t", target, "--cpu"]
    arguments += ["--beam", str(work.search["beam"]), "--num-workers", "0"]
    arguments += ["--max-tokens", str(work.search["batch_tokens"])]
    arguments += ["--required-batch-size-multiple", "1", "--results-path", str(logs)]
    if not work.trained:
        for flag, name in (("--min-len", "min_length"), ("--max-len-b", "max_length")):
            arguments += [flag, str(work.search[name])]
    parser = options.get_generation_parser()
    generate.StopwatchMeter = Stopwatch
    generate.main(options.parse_args_and_arch(parser, arguments))
    logging.getLogger("fairseq_cli.generate").handlers.clear()
    lines = (logs / "generate-test.txt").read_text(encoding="utf-8").split("\n")
    rows = [line[2:].split("\t") for line in lines if line.startswith("H-")]
    rows.sort(key=lambda row: int(row[0]))
    return Stopwatch.seconds, [tuple(row[2].split()) for row in rows]


def run_translator(translator, sources: List[List[str]]):
    """A translator once; its seconds and what it said."""
    start = Stopwatch.clock()
    found = translator.translate_tokens(sources)
    return Stopwatch.clock() - start, [row[0].tokens for row in found]


def measure(systems: dict, rounds: int) -> Dict[str, Result]:
    """All systems take turns; the first round is not counted."""
    results = {name: Result() for name in systems}
    for turn in range(rounds + 1):
        for name, system in systems.items():
            seconds, results[name].tokens = system()
            if turn:
                results[name].seconds.append(seconds)
            print(f"round {turn} {name}: {seconds:.2f} s", file=sys.stderr, flush=True)
    return results


# --- report -------------------------------------------------------------------------------------


def ratios(results: Dict[str, Result], name: str, other: str) -> List[float]:
    """Times of ``other`` divided by those of ``name``, round by round: how often as fast."""
    pairs = zip(results[other].seconds, results[name].seconds, strict=True)
    return [theirs / ours for theirs, ours in pairs]


def spread(values: List[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def bleu_scores(work: Workload, results: Dict[str, Result]) -> Dict[str, float]:
    """BLEU of every system; the references are spelled from pieces as the translations are."""
    symbols = {piece for row in work.targets for piece in row}
    codec = find_codec({}, (None, None), sorted(symbols), work.data)
    references = [[codec.decode(row) for row in work.targets]]
    return {
        name: score([codec.decode(row) for row in result.tokens], references, ["bleu"])[0].score
        for name, result in results.items()
    }


def table(work: Workload, results: Dict[str, Result], bleu: Dict[str, float]):
    """The results in Markdown."""
    yield "| system | sentences/s | times as fast as the tree | same pieces | BLEU |"
    yield "|---|---|---|---|---|"
    count = len(work.sources)
    reference = results[TREE].tokens
    for name, result in results.items():
        speed = [count / seconds for seconds in result.seconds]
        same = sum(a == b for a, b in zip(result.tokens, reference, strict=True))
        yield (
            f"| {name} | {spread(speed)} | {spread(ratios(results, name, TREE))} | "
            f"{same} of {count} | {f'{bleu[name]:.2f}' if bleu else '-'} |"
        )


def missed_bars(results: Dict[str, Result], bleu: Dict[str, float]) -> List[str]:
    """Which bars are missed, in words."""
    faster = statistics.median(ratios(results, INT8, TREE))
    slower = statistics.median(ratios(results, PLAIN, EXPORT))
    same = results[TREE].tokens == results[EXPORT].tokens == results[PLAIN].tokens
    checks = [
        (faster >= FASTER, f"{INT8} is {faster:.2f} times as fast as the tree, not {FASTER}"),
        (slower <= SLOWER, f"the export takes {slower:.3f} times as long as the plain model"),
        (same, "tree, export and plain model do not say the same"),
        (
            not bleu or bleu[TREE] - bleu[INT8] <= BLEU_DROP,
            f"{INT8} loses more than {BLEU_DROP} BLEU",
        ),
    ]
    return [reason for fine, reason in checks if not fine]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--checkpoint", help="a trained tree (default: random weights)")
    add("--data", help="its data-bin, where it is not the one that the checkpoint names")
    add("--subset", default="test", help="split to translate with --checkpoint")
    add("--size", default="iwslt_de_en", help="without --checkpoint: the architecture's size")
    add("--vocabulary", type=int, default=10000, help="without --checkpoint: symbols")
    add("--length", type=int, default=25, help="without --checkpoint: pieces of a translation")
    add("--sentences", type=int, default=500, help="at most so many sentences")
    add("--beam", type=int, default=5, help="beam size")
    add("--batch-tokens", type=int, default=4000, help="source tokens of a batch, as --max-tokens")
    add("--rounds", type=int, default=5, help="rounds that are measured")
    add("--threads", type=int, default=1, help="threads of PyTorch and CTranslate2")
    add("--cpu-time", action="store_true", help="of one thread, where others use the machine too")
    return parser.parse_args()


def main() -> int:
    """Measures and prints; status 1 when a bar is missed."""
    args = parse_arguments()
    if args.cpu_time:
        Stopwatch.clock = staticmethod(time.process_time)
    torch.set_num_threads(args.threads)
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = (trained_workload if args.checkpoint else random_workload)(args, folder)
        results = measure(make_systems(work, folder), args.rounds)
    bleu = bleu_scores(work, results) if work.trained else {}
    kind = "trained" if work.trained else f"random weights, {args.length} pieces forced"
    words = sum(map(len, work.sources)) / len(work.sources)
    print(
        f"{args.checkpoint or args.size} ({kind}), {len(work.sources)} sentences of {words:.1f} "
        f"pieces, beam {args.beam}, {args.batch_tokens} tokens a batch, {args.rounds} rounds of "
        f"{'CPU' if args.cpu_time else 'wall'} time, {args.threads} thread(s), torch "
        f"{torch.__version__}, {platform.machine()}\n"
    )
    print("\n".join(table(work, results, bleu)))
    print(f"\nexport to plain, time: {spread(ratios(results, PLAIN, EXPORT))}")
    missed = missed_bars(results, bleu)
    print(f"missed: {'; '.join(missed)}" if missed else "every bar is kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
