"""Time and memory of the branch head: every objective, three ways of computing, four leaves.

    python benchmarks/head.py                          # 2048 rows x 8192 classes x 256 wide
    python benchmarks/head.py --size 4096 32768 512    # the large size

The yardstick is the bare matrix products that any head has to do, in the head's own chunks: logits,
gradient of the features and gradient of the projection, with the objective's own extra projections
counted in, written to memory that is kept. What remains is what the losses cost. An evaluation is
forward and backward of one batch, the objective's trainable parts included.

* Times: one process, every candidate once per round, the rounds interleaved; median of the rounds'
  ratios to the bare products of the same round, with the smallest and the largest ratio.
* Memory: peak resident memory of a process of its own that evaluates once, over what was resident
  before (inputs, parameters and libraries, after a small evaluation that warms everything up).

Ways: `reference` is one chunk and plain autograd; `recompute` drops a chunk's logits and computes
them again in backward (what float16 takes); `fast` takes the gradients during forward.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Tuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

from tsa_mt import head  # noqa: E402
from tsa_mt.branches import BranchOutputs, Projection, TeacherOutputs  # noqa: E402
from tsa_mt.objectives import OBJECTIVES, Context, build_objective  # noqa: E402
from tsa_mt.objectives.consistency import passes_of  # noqa: E402

LEAVES = 4
TREE = "0(1,1,1,1)"
WAYS = ("reference", "recompute", "fast")
FIRST_SIZE = (2048, 8192, 256)
TIME_BARS = {"tsa": 1.6}
OTHER_TIME_BAR = 2.2
MEMORY_BARS = {"tsa": 0.6}
BARRED_WAY = "fast"


class Workload:
    """Everything one objective is evaluated on.

    Args:
        name: The objective.
        rows: Rows of a batch.
        classes: Size of the vocabulary.
        dim: Width of the features.
    """

    def __init__(self, name: str, rows: int, classes: int, dim: int):
        torch.manual_seed(1)
        bridged = OBJECTIVES[name].needs_bridge  # one student and the bridge
        self.objective = build_objective(name, "2" if bridged else TREE, dim, classes)
        self.passes = passes_of(self.objective)
        own = self.objective.leaves
        self.target = torch.randint(classes, (rows,))
        self.features = [torch.randn(self.passes * rows, dim).requires_grad_() for _ in range(own)]
        self.trunk = torch.randn(self.passes * rows, dim)
        self.weight = (torch.randn(classes, dim) * dim**-0.5).requires_grad_()
        self.projections = [Projection(self.weight)] * own
        self.teachers = self._teachers(rows, classes, dim)
        self.memory: Dict[Tuple[str, Tuple[int, ...]], torch.Tensor] = {}

    def _teachers(self, rows, classes, dim):
        averaged = self.objective.average_decay is not None
        count = self.objective.leaves if averaged else int(self.objective.needs_teacher)
        if not count:
            return None
        features = [torch.randn(rows, dim) for _ in range(count)]
        shared = Projection(torch.randn(classes, dim) * dim**-0.5)
        return TeacherOutputs(features, [shared] * count)

    def run(self, rows: int, way: str = BARRED_WAY) -> None:
        """Forward and backward of the first ``rows`` rows."""
        every = self.passes * rows
        outputs = BranchOutputs(
            [feature[:every] for feature in self.features], trunk=self.trunk[:every]
        )
        teachers = self.teachers and TeacherOutputs(
            [feature[:rows] for feature in self.teachers.features], self.teachers.projections
        )
        projections = self.projections + self.objective.projections
        with recomputing(way == "recompute"):
            result = head.branch_head(
                self.objective,
                self.objective.fuse(outputs),
                projections * self.passes,
                self.target[:rows],
                Context(progress=0.5),
                chunk_rows=0 if way == "reference" else None,
                teachers=teachers,
            )
            result.total.backward()
        for tensor in (self.weight, *self.features, *self.objective.parameters()):
            tensor.grad = None

    def products(self) -> None:
        """The bare matrix products of the same batch, in the same chunks."""
        rows = len(self.target)
        taught = len(self.teachers.features) if self.teachers else 0
        leaves = [part for f in self.features for part in f.detach().chunk(self.passes)]
        extras = self.objective.projections * self.passes
        chunk = head._chunk_rows(len(leaves) + len(extras) + taught, self.weight)
        stacked = torch.stack(leaves)
        for start in range(0, rows, chunk):
            piece = stacked[:, start : start + chunk].flatten(0, 1)
            self._three_products(piece, self.weight.detach())
            for extra in extras:
                wide = torch.cat([f[start : start + chunk] for f in leaves], -1)
                self._three_products(wide[:, : extra.weight.shape[1]], extra.weight.detach())
            if self.teachers:
                frozen = [f[start : start + chunk] for f in self.teachers.features]
                self._logits(torch.cat(frozen), self.teachers.projections[0].weight)

    def _three_products(self, features: torch.Tensor, weight: torch.Tensor) -> None:
        """Logits, gradient of the features, gradient of the weight summed over the chunks.

        The logits stand in for their gradient.
        """
        logits = self._logits(features, weight)
        logits @ weight
        self._kept("gradient", weight.shape).addmm_(logits.t(), features)

    def _logits(self, features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        kept = self._kept("logits", (len(features), len(weight)))
        return torch.mm(features, weight.t(), out=kept)

    def _kept(self, role: str, shape) -> torch.Tensor:
        """Memory that stays: new memory for every chunk would cost the products time, too."""
        if (role, shape) not in self.memory:
            self.memory[role, shape] = torch.zeros(shape)
        return self.memory[role, shape]


@contextmanager
def recomputing(wanted: bool):
    """Makes the head recompute, as it does by itself for float16 only."""
    fast = head._gradient_in_forward
    if wanted:
        head._gradient_in_forward = head._recompute
    try:
        yield
    finally:
        head._gradient_in_forward = fast


def seconds(function, *arguments) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def measure_times(names, size, repeats):
    """Ratios to the bare products, by objective and way, and the products' own seconds."""
    rows = size[0]
    loads = {name: Workload(name, *size) for name in names}
    for load in loads.values():
        load.products()
        for way in WAYS:
            load.run(min(64, rows), way)
    ratios = {(name, way): [] for name in names for way in WAYS}
    bare = {name: [] for name in names}
    for _ in range(repeats):
        for name, load in loads.items():
            bare[name].append(seconds(load.products))
            for way in WAYS:
                ratios[name, way].append(seconds(load.run, rows, way) / bare[name][-1])
    return ratios, bare


def set_product_rows(rows: int) -> None:
    """Makes chunks of as many rows, of all leaves together, whatever their logits take."""
    head.LEAST_PRODUCT_ROWS = rows
    head.CHUNK_BYTES["cpu"] = 0


def measure_memory(name, way, size, product_rows=None) -> float:
    """Extra peak memory in GiB, measured by a process of its own."""
    command = [sys.executable, __file__, "--peak", name, way, "--size", *map(str, size)]
    if product_rows:
        command += ["--product-rows", str(product_rows)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def print_peak(name, way, size) -> None:
    """Prints how far the resident memory rises above what was there before, in GiB."""
    load = Workload(name, *size)
    load.run(64, way)
    before = _resident()
    load.run(size[0], way)
    print(max(0.0, _peak() - before))


def _peak() -> float:
    """Largest resident memory so far, in GiB."""
    return _status("VmHWM:")


def _resident() -> float:
    """Resident memory now, in GiB."""
    return _status("VmRSS:")


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith(field)]
    return int(kilobytes) / 2**20


def table(names, ratios, bare, memory):
    """The results in Markdown, with the bars they have to keep."""
    yield "| objective | bare products | " + " | ".join(f"{way}" for way in WAYS) + " |"
    yield "|---" * (2 + len(WAYS)) + "|"
    for name in names:
        cells = [
            f"{statistics.median(r):.2f} ({min(r):.2f}-{max(r):.2f}), {memory[name, way]:.2f} GiB"
            for way in WAYS
            for r in [ratios[name, way]]
        ]
        yield f"| `{name}` | {statistics.median(bare[name]):.2f} s | " + " | ".join(cells) + " |"


def missed_bars(names, ratios, memory):
    """Sentences about every bar that the fast way misses."""
    for name in names:
        bar = TIME_BARS.get(name, OTHER_TIME_BAR)
        ratio = statistics.median(ratios[name, BARRED_WAY])
        if ratio > bar:
            yield f"{name} takes {ratio:.2f} times the bare products, more than {bar}"
        bar = MEMORY_BARS.get(name, float("inf"))
        if memory[name, BARRED_WAY] > bar:
            yield f"{name} needs {memory[name, BARRED_WAY]:.2f} GiB extra, more than {bar}"


def main() -> int:
    """Measures and prints; status 1 when a bar is missed at the first size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs=3, type=int, default=FIRST_SIZE, metavar="N")
    parser.add_argument("--objectives", nargs="*", default=list(OBJECTIVES), choices=OBJECTIVES)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--product-rows", type=int, help="rows of a chunk, of all leaves together")
    parser.add_argument("--json", type=Path, help="also write the raw measurements there")
    parser.add_argument("--peak", nargs=2, metavar=("OBJECTIVE", "WAY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if args.product_rows:
        set_product_rows(args.product_rows)
    if args.peak:
        print_peak(*args.peak, args.size)
        return 0
    ratios, bare = measure_times(args.objectives, args.size, args.repeats)
    memory = {key: measure_memory(*key, args.size, args.product_rows) for key in ratios}
    print(
        f"{' x '.join(map(str, args.size))} rows x classes x width, {LEAVES} leaves, "
        f"{args.repeats} rounds, {os.environ['OMP_NUM_THREADS']} thread, torch "
        f"{torch.__version__}, {platform.machine()}; times as multiples of the bare products\n"
    )
    print("\n".join(table(args.objectives, ratios, bare, memory)))
    if args.json:
        raw = {
            name: {
                way: {"ratios": ratios[name, way], "extra_gib": memory[name, way]} for way in WAYS
            }
            for name in args.objectives
        }
        args.json.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    missed = list(missed_bars(args.objectives, ratios, memory))
    if tuple(args.size) != FIRST_SIZE or args.product_rows:
        return 0
    print("\n" + ("\n".join(missed) if missed else "every bar is kept"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
