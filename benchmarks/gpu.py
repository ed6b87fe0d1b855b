"""What the head, an update and a resumed training do on a GPU; `benchmarks/gpu.sh` runs all three.

    python benchmarks/gpu.py head            # against a textbook and Liger's fused JSD
    python benchmarks/gpu.py update          # TSA in bfloat16 against stock fairseq's plain update
    python benchmarks/gpu.py resume FOLDER   # 300 updates at once, and the same in two parts

``--device cpu`` runs the same on small sizes. Times are medians, memory is the peak over what was
allocated before.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

LEAVES, WIDTH = 4, 512
HEADS = {
    "cuda": [(rows, classes) for classes in (8192, 32768, 131072) for rows in (1024, 4096, 16384)],
    "cpu": [(64, 512)],
}
LARGEST_TEXTBOOK = 4 * 2**30
"""Most logits of all leaves, in bytes, for which the textbook way is tried."""
UPDATES = {"cuda": 300, "cpu": 20}
REPEATS = 5


def timed(run, device: str) -> tuple[float, float]:
    """Milliseconds (median) and MiB (peak over what was there) of a function."""
    run()
    cuda = device == "cuda"
    before = torch.cuda.memory_allocated() if cuda else 0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(REPEATS):
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() - before if cuda else 0
    return 1000 * statistics.median(times), peak / 2**20


# --- the head -----------------------------------------------------------------------------------


class HeadLoad:
    """Features of four leaves, a projection and targets; each method is forward and backward."""

    def __init__(self, rows: int, classes: int, device: str):
        from tsa_mt.objectives import build_objective

        torch.manual_seed(1)
        make = {"device": device, "dtype": torch.bfloat16}
        self.objective = build_objective("tsa", "0(1,1,1,1)", WIDTH, classes)
        self.features = [
            torch.randn(rows, WIDTH, requires_grad=True, **make) for _ in range(LEAVES)
        ]
        self.weight = (torch.randn(classes, WIDTH, **make) * WIDTH**-0.5).requires_grad_()
        self.target = torch.randint(classes, (rows,), device=device)
        self.fits = 4 * LEAVES * rows * classes <= LARGEST_TEXTBOOK

    def _backward(self, loss) -> None:
        loss.backward()
        for tensor in (self.weight, *self.features):
            tensor.grad = None

    def ours(self) -> None:
        """The head as a training runs it."""
        from tsa_mt.branches import BranchOutputs, Projection
        from tsa_mt.head import branch_head
        from tsa_mt.objectives import Context

        outputs, projections = BranchOutputs(self.features), [Projection(self.weight)] * LEAVES
        result = branch_head(
            self.objective, outputs, projections, self.target, Context(), compiled=True
        )
        self._backward(result.total)

    def textbook(self) -> None:
        """All logits at once, and one KL per ordered pair."""
        logits = [torch.nn.functional.linear(f, self.weight).float() for f in self.features]
        loss = sum(torch.nn.functional.cross_entropy(z, self.target) for z in logits)
        soft = [torch.log_softmax(z / 3, -1) for z in logits]
        for one in soft:
            for other in soft:
                if one is not other:
                    kl = torch.nn.functional.kl_div(one, other, log_target=True, reduction="sum")
                    loss = loss + kl
        self._backward(loss)

    def liger(self) -> None:
        """Liger's fused JSD for every unordered pair, the nearest that it has."""
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

        jsd = LigerFusedLinearJSDLoss(weight_hard_loss=0.7, weight_soft_loss=0.3)
        pairs = [(a, b) for a in range(LEAVES) for b in range(a)]
        loss = sum(
            jsd(self.features[a], self.weight, self.features[b], self.weight, self.target)
            for a, b in pairs
        )
        self._backward(loss)


def head(device: str) -> None:
    """Prints the head's table."""
    print("| rows x classes | ours | textbook | Liger, six pairs |\n|---|---|---|---|")
    for rows, classes in HEADS[device]:
        load = HeadLoad(rows, classes, device)
        cells = [_cell(load.ours, device)]
        cells.append(_cell(load.textbook, device) if load.fits else "too large")
        cells.append(_cell(load.liger, device))
        print(f"| {rows} x {classes} | {' | '.join(cells)} |", flush=True)


def _cell(run, device: str) -> str:
    try:
        return "{:.1f} ms, {:.0f} MiB".format(*timed(run, device))
    except ImportError as error:
        return f"not installed ({error.name})"
    except (RuntimeError, TypeError) as error:  # out of memory, or a version with other arguments
        return f"failed: {type(error).__name__}"


# --- an update ----------------------------------------------------------------------------------


def update(device: str) -> None:
    """Prints the time of a TSA update in terms of stock fairseq's, both under bfloat16 autocast."""
    from training_step import Candidate, Version, make_batch

    size, words, tokens = ("iwslt_de_en", 10_000, 4096) if device == "cuda" else ("tiny", 500, 200)
    batch = _on(make_batch(tokens, words), device)
    print("| update | time | peak |\n|---|---|---|")
    for name, version in (
        ("stock fairseq", Version(None, "")),
        ("tsa", Version("tsa", "tsa", compiled=True)),
    ):
        candidate = Candidate(version, size, words)
        candidate.model.to(device)

        def run(candidate=candidate):
            with torch.autocast(device, torch.bfloat16):
                loss, _, _ = candidate.criterion(candidate.model, batch)
            loss.backward()
            candidate.optimizer.clip_grad_norm(0.0)
            candidate.optimizer.step()
            candidate.optimizer.zero_grad()

        print("| {} | {:.1f} ms | {:.0f} MiB |".format(name, *timed(run, device)), flush=True)


def _on(value, device: str):
    if isinstance(value, dict):
        return {name: _on(each, device) for name, each in value.items()}
    return value.to(device) if isinstance(value, torch.Tensor) else value


# --- a training that is resumed -----------------------------------------------------------------


def resume(folder: Path, device: str) -> None:
    """Trains at once and in two parts, and compares the weights bit by bit.

    Raises:
        AssertionError: They differ.
    """
    updates = UPDATES[device]
    data = write_corpus(folder)
    for save, until in (("whole", updates), ("parts", updates // 2), ("parts", updates)):
        train(data, folder / save, until, device)
    one, other = (
        torch.load(folder / save / "checkpoint_last.pt", map_location="cpu", weights_only=False)
        for save in ("whole", "parts")
    )
    for name, tensor in one["model"].items():
        assert tensor.equal(other["model"][name]), f"{name} differs after the resume"
    print(f"{updates} updates at once and in two parts end in the same {len(one['model'])} tensors")


def write_corpus(folder: Path) -> Path:
    """A data-bin of 2,000 sentences to be translated backwards."""
    draw, text = random.Random(0), folder / "text"
    text.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 2000), ("valid", 100)):
        lines = [draw.choices([f"w{n}" for n in range(200)], k=12) for _ in range(count)]
        for language, order in (("en", 1), ("de", -1)):
            content = "".join(" ".join(line[::order]) + "\n" for line in lines)
            (text / f"{split}.{language}").write_text(content)
    call("fairseq_cli.preprocess", "--source-lang en --target-lang de --joined-dictionary", [
        *("--trainpref", text / "train", "--validpref", text / "valid"),
        *("--destdir", folder / "data"),
    ])  # fmt: skip
    return folder / "data"


def train(data: Path, save: Path, until: int, device: str) -> None:
    """fairseq-train up to an update, going on where a training in ``save`` stopped."""
    options = (
        "--arch tree_transformer_tiny --tree 0(2,2) --criterion online_kd --kd-objective tsa "
        "--optimizer adam --lr 0.001 --max-tokens 1000 --num-workers 0 --no-epoch-checkpoints "
        "--log-format none --disable-validation --seed 1"
    )
    user_dir = Path(__file__).resolve().parent.parent / "tsa_mt"
    more = ["--user-dir", user_dir, "--save-dir", save, "--max-update", until]
    call("fairseq_cli.train", f"{options}{' --cpu' * (device == 'cpu')}", [data, *more])


def call(module: str, options: str, more: list) -> None:
    """Runs a command of fairseq."""
    command = [sys.executable, "-m", module, *map(str, more), *options.split()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)


def main() -> None:
    """Runs one of the three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("head", "update", "resume"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("gpu-resume"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    args = parser.parse_args()
    with torch.cuda.device(0) if args.device == "cuda" else nullcontext():
        if args.what == "resume":
            resume(args.folder, args.device)
        else:
            {"head": head, "update": update}[args.what](args.device)


if __name__ == "__main__":
    main()
