"""What a share of the rows costs and how noisy it is: ``--kd-row-share``.

    python benchmarks/row_share.py DATA-BIN CHECKPOINT --max-tokens 1000

For some batches of the training set the gradient of all parameters is computed on all rows, and
for every share on several draws. Printed are

* *time*: processor time of forward and backward, relative to that on all rows right before; median;
* *noise of the draw*: root mean squared distance of a draw's gradient from that of all rows,
  relative to its norm;
* *noise of the batch*: the same of one batch's gradient from the mean over the batches. What the
  draw adds to an update is to be read beside it.

Before that comes the head alone, TSA on four leaves with random features: processor time relative
to all rows. There the losses of all rows are also compiled, which those of a share are not.

The dropout is that of evaluation (none), so that draws differ in rows only.
"""

import argparse
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from fairseq import checkpoint_utils  # noqa: E402

from tsa_mt import plugin  # noqa: E402
from tsa_mt.branches import BranchOutputs, Projection  # noqa: E402
from tsa_mt.criterion import OnlineKDCriterion  # noqa: E402
from tsa_mt.head import branch_head  # noqa: E402
from tsa_mt.objectives import Context, build_objective  # noqa: E402
from tsa_mt.row_share import shared_head  # noqa: E402

SHARES = (0.75, 0.5, 0.25)


def gradient(criterion, model, sample, update=0):
    """The gradient of all parameters per token as one vector, and the seconds it took."""
    model.zero_grad(set_to_none=True)
    model.num_updates = update
    began = time.process_time()
    loss, size, _ = criterion(model, sample)
    loss.backward()
    seconds = time.process_time() - began
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat(grads) / size, seconds


def criterion_of(model, task, share):
    """The criterion of the training, with a share of the rows."""
    criterion = OnlineKDCriterion(
        task, False, 0, 0.1, kd_row_share=share, kd_objective=model.objective.name
    )
    return criterion.train()


def root_mean_square(distances):
    """Of norms."""
    return statistics.fmean(d**2 for d in distances) ** 0.5


def head_table(rows=2048, classes=8192, dim=256, rounds=3):
    """Prints the time of the head alone."""
    torch.manual_seed(1)
    features = [torch.randn(rows, dim).requires_grad_() for _ in range(4)]
    projections = [Projection(torch.randn(classes, dim).requires_grad_())] * 4
    target = torch.randint(classes, (rows,))
    okd = build_objective("tsa", "0(1,1,1,1)", dim, classes)
    ways = {"all, compiled": partial(branch_head, compiled=True), "all": branch_head}
    for share in SHARES:
        drawn = torch.rand(rows) < share
        ways[f"{share:.2f}"] = partial(shared_head, drawn=drawn, share=share)
    times = {way: [] for way in ways}
    for _ in range(rounds + 1):  # the first warms everything up
        for way, head in ways.items():
            began = time.process_time()
            head(okd, BranchOutputs(features), projections, target, Context()).total.backward()
            times[way].append(time.process_time() - began)
    whole = statistics.median(times["all"][1:])
    print(f"head alone, {rows} rows x {classes} classes x {dim} wide: {whole:.2f} s on all rows")
    for way, taken in times.items():
        print(f"{way:>13}  x{statistics.median(taken[1:]) / whole:.2f}")


def main():
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--max-tokens", type=int, default=1000)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--draws", type=int, default=4)
    args = parser.parse_args()
    plugin.register()
    torch.set_num_threads(1)
    head_table()
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(args.checkpoint)], arg_overrides={"data": str(args.data)}
    )
    model.eval()
    task.load_dataset("train")
    batches = task.get_batch_iterator(
        task.dataset("train"), max_tokens=args.max_tokens, seed=1
    ).next_epoch_itr(shuffle=True)
    samples = [sample for _, sample in zip(range(args.batches), batches)]
    plain = criterion_of(model, task, 1.0)
    gradient(plain, model, samples[0])  # warms everything up
    whole = [gradient(plain, model, sample) for sample in samples]
    mean = torch.stack([grad for grad, _ in whole]).mean(0)
    rows = statistics.fmean(sample["ntokens"] for sample in samples)
    print(f"{model.objective.name} on {model.tree}, {rows:.0f} rows a batch")
    spread = [float((grad - mean).norm() / mean.norm()) for grad, _ in whole]
    print(f"noise of the batch {root_mean_square(spread):.3f}")
    print("share   time   noise of the draw")
    for share in SHARES:
        criterion = criterion_of(model, task, share)
        times, noise = [], []
        for (exact, _), sample in zip(whole, samples):
            for update in range(args.draws):
                _, before = gradient(plain, model, sample)
                drawn, took = gradient(criterion, model, sample, update)
                times.append(took / before)
                noise.append(float((drawn - exact).norm() / exact.norm()))
        print(f"{share:5.2f}  x{statistics.median(times):.2f}   {root_mean_square(noise):.3f}")


if __name__ == "__main__":
    main()
