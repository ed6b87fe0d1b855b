"""Time of one update: this package's trees against stock fairseq's plain Transformer in float32.

    python benchmarks/training_step.py                       # Multi30k size, 3,500 target tokens
    python benchmarks/training_step.py --size iwslt_de_en --vocabulary 10000
    python benchmarks/training_step.py --write benchmarks/training_step.md

The yardstick is fairseq's own ``transformer`` of the leader's size under
``label_smoothed_cross_entropy``, in a process in which nothing of this package is switched on. An
update is what fairseq's trainer does with a batch: forward, backward, division by the sample size,
gradient norm, optimizer step, gradients to zero. Everything is fairseq's: models are built by the
architectures' names, the criteria and Adam are the trainer's. The batch is synthetic, so that no
corpus is needed: as in fairseq's batches all sources are of one length and their translations of
nearly one (13 to 15 words; one position in fifteen is padding).

Every candidate has a process of its own. The processes take turns, one update each a round, so that
none runs beside another. A row is the median of the rounds' ratios to the yardstick of the same
round, of the process's CPU time; ``wall`` is the same ratio of wall time, which means something on
a quiet machine only. ``products`` is the share of an update that its matrix products take, by
PyTorch's profiler: where everything else cost nothing, it would be 100 %.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

from tsa_mt.memory import keep_freed_memory  # noqa: E402

PLAIN = "stock fairseq, float32"
FIRST_SIZE = "multi30k"
SIZES = ("multi30k", "iwslt_de_en", "wmt_en_de")
LENGTHS = (13, 14, 15)
SMOOTHING = 0.1
PRODUCTS = ("mm", "addmm", "addmm_", "bmm", "baddbmm", "mkldnn_linear", "linear")


@dataclass(frozen=True)
class Version:
    """What is timed.

    Attributes:
        tree: Tree of layers; ``None`` for stock fairseq.
        objective: Name of the objective.
        arithmetic: ``blas`` (as PyTorch comes), ``onednn``, ``bfloat16``; ``None`` switches nothing
            on, not even the attention kernel for short sentences.
        compiled: Whether the losses are compiled.
        cheap_dropout: Whether dropout masks are drawn four at a time.
        keeps: Whether the process keeps the memory that it frees.
        bar: Largest ratio to the yardstick that is wanted at `FIRST_SIZE`.
    """

    tree: str | None
    objective: str
    arithmetic: str | None = None
    compiled: bool = False
    cheap_dropout: bool = False
    keeps: bool = False
    bar: float | None = None


VERSIONS = {
    PLAIN: Version(None, ""),
    "chain, nothing switched on": Version("chain", "independent"),
    "chain, float32": Version("chain", "independent", "onednn", True, True, True, 0.75),
    "chain, bfloat16": Version("chain", "independent", "bfloat16", True, True, True, 0.4),
    "tsa, nothing switched on": Version("tsa", "tsa"),
    "+ plain attention kernel": Version("tsa", "tsa", "blas"),
    "+ compiled losses": Version("tsa", "tsa", "blas", True),
    "+ products by oneDNN": Version("tsa", "tsa", "onednn", True),
    "+ cheap dropout": Version("tsa", "tsa", "onednn", True, True),
    "+ memory kept = tsa, float32": Version("tsa", "tsa", "onednn", True, True, True, 1.9),
    "tsa, bfloat16": Version("tsa", "tsa", "bfloat16", True, True, True, 1.3),
}


def make_task(words: int) -> SimpleNamespace:
    """What models and criteria ask of a task: one dictionary of so many symbols."""
    from fairseq.data import Dictionary

    dictionary = Dictionary()
    for number in range(words - len(dictionary)):
        dictionary.add_symbol(f"w{number}")
    return SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)


def make_batch(tokens: int, words: int) -> dict:
    """About so many target tokens in sentences of like lengths."""
    torch.manual_seed(0)
    count = max(1, round(tokens / statistics.mean(LENGTHS)))
    lengths = torch.tensor(LENGTHS).repeat(count)[:count].sort().values
    longest = int(lengths.max())
    inside = torch.arange(longest)[None] < lengths[:, None]  # sentences x length
    target = torch.randint(4, words, (count, longest)).masked_fill(~inside, 1)
    target[torch.arange(count), lengths - 1] = 2
    previous = target.roll(1, dims=1).masked_fill(~inside, 1)
    previous[:, 0] = 2
    return {
        "net_input": {
            "src_tokens": torch.randint(4, words, (count, LENGTHS[1])),
            "src_lengths": torch.full((count,), LENGTHS[1]),
            "prev_output_tokens": previous,
        },
        "target": target,
        "ntokens": int(lengths.sum()),
    }


class Candidate:
    """A model with criterion and optimizer.

    Args:
        version: What it is.
        size: One of `SIZES`.
        words: Symbols of the dictionary.
    """

    def __init__(self, version: Version, size: str, words: int):
        from tsa_mt import plugin

        plugin.register()  # the yardstick too: fairseq needs its fixes
        from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
        from fairseq.optim.adam import FairseqAdam

        task = make_task(words)
        args = Namespace(share_all_embeddings=True)
        ARCH_CONFIG_REGISTRY[f"tree_transformer_{size}"](args)
        args.arch = "transformer" if version.tree is None else f"tree_transformer_{size}"
        args.kd_objective, args.tree = version.objective, version.tree
        torch.manual_seed(1)
        self.model = ARCH_MODEL_REGISTRY[args.arch].build_model(args, task).train()
        self.criterion = _criterion(version, task)
        adam = {"lr": [1e-4], "adam_betas": "(0.9, 0.98)", "adam_eps": 1e-8, "weight_decay": 0.0}
        more = {"use_old_adam": False, "fp16_adam_stats": False, "tpu": False}
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = FairseqAdam(SimpleNamespace(**adam, **more), parameters)

    def update(self, batch: dict) -> tuple[float, float]:
        """One update; returns its seconds of CPU and of wall time."""
        cpu, wall = time.process_time(), time.perf_counter()
        loss, sample_size, _ = self.criterion(self.model, batch)
        loss.backward()
        self.optimizer.multiply_grads(1.0 / sample_size)
        self.optimizer.clip_grad_norm(0.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.process_time() - cpu, time.perf_counter() - wall

    def facts(self, batch: dict) -> tuple[float, float, float]:
        """Operations of an update's products (G), their share of its time, peak memory (MiB)."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            self.update(batch)
        times = {each.key: each.self_cpu_time_total for each in profile.key_averages()}
        share = sum(times.get(f"aten::{name}", 0) for name in PRODUCTS) / sum(times.values())
        return self._operations(batch), share, peak

    def _operations(self, batch: dict) -> float:
        from torch.utils.flop_counter import FlopCounterMode

        in_place = {torch.ops.aten.addmm_: _product_of_addmm}  # unknown to the counter
        self.criterion.compiled = False  # the counter does not look into compiled functions
        with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
            self.update(batch)
        return counter.get_total_flops() / 1e9


def _criterion(version: Version, task):
    """The criterion, with the version's arithmetic switched on."""
    from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion

    from tsa_mt.criterion import OnlineKDCriterion
    from tsa_mt.precision import Precision, measure

    if version.tree is None:
        return LabelSmoothedCrossEntropyCriterion(task, False, SMOOTHING)
    criterion = OnlineKDCriterion(
        task,
        False,
        max_update=1000,
        label_smoothing=SMOOTHING,
        kd_objective=version.objective,
        kd_eager=not version.compiled,
        kd_cheap_dropout=version.cheap_dropout,
    )
    if version.arithmetic is not None:
        name = "bfloat16" if version.arithmetic == "bfloat16" else "float32"
        precision = Precision(name, version.arithmetic != "blas", measure("cpu"))
        precision.switch()
        criterion.use(precision)
    return criterion


def _product_of_addmm(total, left, right, **_) -> int:
    """Operations of ``total += left @ right``, given shapes."""
    return 2 * left[0] * left[1] * right[1]


def serve(pipe, version: Version, args: Namespace) -> None:
    """What a process does: an update or the facts, whenever it is asked."""
    torch.set_num_threads(args.threads)
    if version.keeps:
        keep_freed_memory()
    candidate = Candidate(version, args.size, args.vocabulary)
    batch = make_batch(args.tokens, args.vocabulary)
    candidate.update(batch)  # warms everything up, and compiles
    pipe.send("ready")
    while (asked := pipe.recv()) != "end":
        pipe.send(getattr(candidate, asked)(batch))


class Process:
    """A candidate in a process of its own."""

    def __init__(self, version: Version, args: Namespace):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        context.Process(target=serve, args=(other, version, args), daemon=True).start()
        assert self.pipe.recv() == "ready"

    def ask(self, what: str):
        """Has it do something and waits for the answer."""
        self.pipe.send(what)
        return self.pipe.recv()

    def end(self) -> None:
        """Lets the process end."""
        self.pipe.send("end")


def measure_all(processes: dict, repeats: int) -> dict:
    """CPU and wall seconds of every candidate in every round: ``[(cpu, wall), ...]`` by name."""
    times: dict = {name: [] for name in processes}
    for _ in range(repeats):
        for name, process in processes.items():
            times[name].append(process.ask("update"))
    return times


def table(times: dict, facts: dict):
    """The results in Markdown."""
    yield "| update | CPU s | ratio | min-max | wall | bar | GFLOP | products | peak MiB |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, rounds in times.items():
        ratios = [
            [mine[kind] / plain[kind] for mine, plain in zip(rounds, times[PLAIN])]
            for kind in (0, 1)
        ]
        cpu = statistics.median(cpu for cpu, _ in rounds)
        operations, share, peak = facts[name]
        bar = VERSIONS[name].bar
        yield (
            f"| {name} | {cpu:.2f} | {statistics.median(ratios[0]):.2f} | "
            f"{min(ratios[0]):.2f}-{max(ratios[0]):.2f} | {statistics.median(ratios[1]):.2f} | "
            f"{'' if bar is None else bar} | {operations:.1f} | {share:.0%} | {peak:.0f} |"
        )


def conditions(args: Namespace) -> str:
    """What the figures depend on, in a sentence."""
    from tsa_mt.evaluate.run_facts import commit, hardware
    from tsa_mt.precision import measure

    figures = measure("cpu")
    return (
        f"{args.size}, about {args.tokens:,} target tokens, {args.vocabulary:,} symbols, "
        f"{args.repeats} rounds, {args.threads} thread(s), torch {torch.__version__}, "
        f"{hardware(False, 1)['name']} ({platform.machine()}), commit {commit()}, load at the end "
        f"{os.getloadavg()[0]:.1f}. One product alone, in G operations a second: float32 "
        f"{figures.float32:.0f}, float32 by oneDNN {figures.onednn:.0f}, bfloat16 "
        f"{figures.bfloat16:.0f}."
    )


def write_between(path: Path, size: str, text: str) -> None:
    """Puts a text between a page's marks for a size; appends both where there are none."""
    begin, end = f"<!-- {size} -->", f"<!-- end of {size} -->"
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    if begin not in page:
        page = f"{page.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = page.split(begin, 1)
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}", encoding="utf-8")


def main() -> int:
    """Measures and prints; status 1 when a bar is missed at the first size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default=FIRST_SIZE, choices=SIZES)
    parser.add_argument("--vocabulary", type=int, default=8000, help="symbols of the dictionary")
    parser.add_argument("--tokens", type=int, default=3500, help="target tokens of the batch")
    parser.add_argument("--repeats", type=int, default=9, help="rounds that are measured")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--only", nargs="*", choices=VERSIONS, default=list(VERSIONS))
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    args = parser.parse_args()
    names = [PLAIN, *(name for name in args.only if name != PLAIN)]
    processes = {name: Process(VERSIONS[name], args) for name in names}
    times = measure_all(processes, args.repeats)
    facts = {name: process.ask("facts") for name, process in processes.items()}
    for process in processes.values():
        process.end()
    text = f"{conditions(args)}\n\n" + "\n".join(table(times, facts))
    print(text)
    if args.write:
        write_between(args.write, args.size, text)
    missed = [
        name
        for name in names
        if (bar := VERSIONS[name].bar) is not None
        and bar
        < statistics.median(mine[0] / plain[0] for mine, plain in zip(times[name], times[PLAIN]))
    ]
    print(f"\nmissed: {'; '.join(missed)}" if missed else "\nevery bar is kept")
    return 1 if missed and args.size == FIRST_SIZE else 0


if __name__ == "__main__":
    sys.exit(main())
