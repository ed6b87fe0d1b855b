"""Time of one update: trees of four leaves against stock fairseq's plain Transformer.

    python benchmarks/training_step.py                       # Multi30k size, 3,500 target tokens
    python benchmarks/training_step.py --size iwslt_de_en --vocabulary 10000

The yardstick is fairseq's own ``transformer`` of the leader's size under
``label_smoothed_cross_entropy``. An update is what fairseq's trainer does with a batch: forward,
backward, division by the sample size, gradient norm, optimizer step, gradients to zero. Everything
is fairseq's: models are built by the architectures' names, the criteria and Adam are the trainer's.
The batch is synthetic, so that no corpus is needed: as in fairseq's batches all sources are of one
length and their translations of nearly one (13 to 15 words; one position in fifteen is padding).

All candidates run once per round in one process, the rounds interleaved; what is printed is the
median of the rounds' ratios to the plain update of the same round, with the smallest and the
largest. ``products`` is the same ratio for floating-point operations in matrix products alone:
where the losses cost nothing, the time would be that.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from fairseq.criterions.label_smoothed_cross_entropy import (  # noqa: E402
    LabelSmoothedCrossEntropyCriterion,
)
from fairseq.data import Dictionary  # noqa: E402
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY  # noqa: E402
from fairseq.optim.adam import FairseqAdam  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from tsa_mt.criterion import OnlineKDCriterion  # noqa: E402

PLAIN = "plain"
FIRST_SIZE = "multi30k"
SIZES = ("multi30k", "iwslt_de_en", "wmt_en_de")
# name: tree and objective; "four leaves of half the decoder" is 2(2,2,2,2) at Multi30k size
CANDIDATES = {
    "chain, independent": ("chain", "independent"),
    "four halves, tsa": ("halves", "tsa"),
    "tsa preset, tsa": ("tsa", "tsa"),
}
BARS = {"chain, independent": 1.0, "four halves, tsa": 3.0, "tsa preset, tsa": 3.0}
LENGTHS = (13, 14, 15)
SMOOTHING = 0.1


def make_task(words: int) -> SimpleNamespace:
    """What models and criteria ask of a task: one dictionary of so many symbols."""
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
        task: From `make_task`.
        size: One of `SIZES`.
        tree: Tree of decoder layers; ``None`` for the stock Transformer.
        objective: Name of the objective.
    """

    clock = staticmethod(time.perf_counter)

    def __init__(self, task, size: str, tree=None, objective: str = "independent"):
        args = Namespace(share_all_embeddings=True)
        ARCH_CONFIG_REGISTRY[f"tree_transformer_{size}"](args)
        args.arch = "transformer" if tree is None else f"tree_transformer_{size}"
        args.kd_objective = objective
        half = args.decoder_layers // 2
        args.tree = f"{args.decoder_layers - half}({half},{half},{half},{half})"
        args.tree = args.tree if tree == "halves" else tree
        torch.manual_seed(1)
        self.model = ARCH_MODEL_REGISTRY[args.arch].build_model(args, task).train()
        if tree is None:
            self.criterion = LabelSmoothedCrossEntropyCriterion(task, False, SMOOTHING)
        else:
            self.criterion = OnlineKDCriterion(
                task, False, max_update=1000, label_smoothing=SMOOTHING, kd_objective=objective
            )
        adam = {"lr": [1e-4], "adam_betas": "(0.9, 0.98)", "adam_eps": 1e-8, "weight_decay": 0.0}
        more = {"use_old_adam": False, "fp16_adam_stats": False, "tpu": False}
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = FairseqAdam(SimpleNamespace(**adam, **more), parameters)

    @property
    def notation(self) -> str:
        """The tree, as text."""
        return str(self.model.tree) if hasattr(self.model, "tree") else "-"

    def update(self, batch: dict) -> float:
        """One update; returns its seconds."""
        start = self.clock()
        loss, sample_size, _ = self.criterion(self.model, batch)
        loss.backward()
        self.optimizer.multiply_grads(1.0 / sample_size)
        self.optimizer.clip_grad_norm(0.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self.clock() - start

    def products(self, batch: dict) -> int:
        """Floating-point operations of an update's matrix products."""
        in_place = {torch.ops.aten.addmm_: _product_of_addmm}  # unknown to the counter
        with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
            self.update(batch)
        return counter.get_total_flops()


def _product_of_addmm(total, left, right, **_) -> int:
    """Operations of ``total += left @ right``, given shapes."""
    return 2 * left[0] * left[1] * right[1]


def measure(candidates: dict, batch: dict, repeats: int):
    """Seconds of the plain updates, and every candidate's ratios to them."""
    plain, ratios = [], {name: [] for name in candidates if name != PLAIN}
    for turn in range(repeats + 1):
        times = {name: candidate.update(batch) for name, candidate in candidates.items()}
        if turn:  # the first round warms everything up
            plain.append(times[PLAIN])
            for name, values in ratios.items():
                values.append(times[name] / times[PLAIN])
    return plain, ratios


def table(candidates: dict, batch: dict, plain: list, ratios: dict):
    """The results in Markdown."""
    products = {name: candidate.products(batch) for name, candidate in candidates.items()}
    spread = f"{min(plain):.2f}-{max(plain):.2f}"
    yield "| update | tree | time | min-max | products | at most |"
    yield "|---|---|---|---|---|---|"
    yield f"| {PLAIN} | - | {statistics.median(plain):.2f} s | {spread} s | 1.00 | |"
    for name, values in ratios.items():
        yield (
            f"| {name} | `{candidates[name].notation}` | {statistics.median(values):.2f} | "
            f"{min(values):.2f}-{max(values):.2f} | {products[name] / products[PLAIN]:.2f} | "
            f"{BARS[name]:.1f} |"
        )


def main() -> int:
    """Measures and prints; status 1 when a bar is missed at the first size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default=FIRST_SIZE, choices=SIZES)
    parser.add_argument("--vocabulary", type=int, default=8000, help="symbols of the dictionary")
    parser.add_argument("--tokens", type=int, default=3500, help="target tokens of the batch")
    parser.add_argument("--repeats", type=int, default=7, help="rounds that are measured")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument(
        "--cpu-time", action="store_true", help="of one thread, where others use the machine too"
    )
    args = parser.parse_args()
    if args.cpu_time:
        Candidate.clock = staticmethod(time.process_time)
    torch.set_num_threads(args.threads)
    task, batch = make_task(args.vocabulary), make_batch(args.tokens, args.vocabulary)
    candidates = {PLAIN: Candidate(task, args.size)}
    for name, (tree, objective) in CANDIDATES.items():
        candidates[name] = Candidate(task, args.size, tree, objective)
    plain, ratios = measure(candidates, batch, args.repeats)
    print(
        f"{args.size}, {batch['ntokens']} target tokens, {args.vocabulary} symbols, "
        f"{args.repeats} rounds of {'CPU' if args.cpu_time else 'wall'} time, {args.threads} "
        f"thread(s), torch {torch.__version__}, {platform.machine()}\n"
    )
    print("\n".join(table(candidates, batch, plain, ratios)))
    if args.size != FIRST_SIZE:
        return 0
    missed = [name for name, values in ratios.items() if statistics.median(values) > BARS[name]]
    print(f"\nmissed: {'; '.join(missed)}" if missed else "\nevery bar is kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
