"""Test accuracy of finished trainings, as rows of docs/results/cifar100.csv.

    python examples/cifar100/evaluate.py DATA SAVE_DIR ... --hardware "2 CPU cores" --csv FILE

Each training gives two rows: the checkpoint that was best on the held-out training images, and the
last one. The test images choose nothing.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch  # noqa: E402

from tsa_mt import plugin  # noqa: E402

plugin.register()

from tsa_mt.evaluate.operations import OperationCounter  # noqa: E402
from tsa_mt.export.checkpoint import load_checkpoint  # noqa: E402
from tsa_mt.vision.accuracy import PREFIX, accuracy_statistics  # noqa: E402
from tsa_mt.vision.checkpoint import to_classifier  # noqa: E402
from tsa_mt.vision.collection import open_collection  # noqa: E402

BATCH = 500
CHECKPOINTS = {"best": "checkpoint_best.pt", "last": "checkpoint_last.pt"}
COLUMNS = (
    "row,data,backbone,objective,tree,seed,epochs,updates,batch,held_out,augment,precision,"
    "checkpoint,accuracy,accuracy_top5,accuracy_ensemble,accuracy_leaves,held_out_accuracy,"
    "parameters_ratio,macs_ratio,hours,hardware,torch,commit"
).split(",")


def main() -> None:
    """Evaluates, prints and appends the rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", help="what the training was given as DATA")
    parser.add_argument("saves", nargs="+", metavar="SAVE_DIR")
    parser.add_argument("--hardware", required=True, help="what it was trained on, in words")
    parser.add_argument("--csv", help="file to append the rows to")
    parser.add_argument("--accept-any-md5", action="store_true")
    args = parser.parse_args()
    test = open_collection(args.data, args.accept_any_md5).load("test")
    rows = [row for save in args.saves for row in evaluate(Path(save), test, args)]
    if args.csv:
        append(Path(args.csv), rows)


def evaluate(save: Path, test, args):
    """One row per checkpoint of a training."""
    for kind, name in CHECKPOINTS.items():
        if (save / name).is_file():
            checkpoint = load_checkpoint(save / name)
            trained = to_classifier(checkpoint, str(save / name))
            row = {
                "row": save.name,
                "checkpoint": kind,
                "hardware": args.hardware,
                "commit": commit(),
                **accuracies(trained, test),
                **conditions(checkpoint, trained),
            }
            print(json.dumps(row))
            yield row


def accuracies(trained, test) -> dict:
    """Accuracy in percent of the leader, the ensemble and every leaf."""
    model, counts = trained.model, {}
    leaves = len(model.tree.leaves)
    for start in range(0, len(test.labels), BATCH):
        rows = slice(start, start + BATCH)
        with torch.no_grad():
            outputs = model.runner.outputs(trained.normalisation.apply(test.pixels[rows]))
            logits = torch.stack(
                [
                    torch.nn.functional.linear(feature, projection.weight, projection.bias)
                    for feature, projection in zip(outputs.features, model.runner.projections())
                ]
            )
        target = torch.from_numpy(test.labels[rows])
        for name, count in accuracy_statistics(logits, target, leaves).items():
            counts[name] = counts.get(name, 0) + int(count)
    share = {n.removeprefix(PREFIX): 100 * c / len(test.labels) for n, c in counts.items()}
    each = [share[f"b{leaf}"] for leaf in range(leaves)]
    return {
        "accuracy": f"{share['b0']:.2f}",
        "accuracy_top5": f"{share['top5']:.2f}",
        "accuracy_ensemble": f"{share['ensemble']:.2f}",
        "accuracy_leaves": " ".join(f"{value:.2f}" for value in each),
    }


def conditions(checkpoint: dict, trained) -> dict:
    """What a number means nothing without."""
    cfg, extra = checkpoint["cfg"], checkpoint["extra_state"]
    model = trained.model
    task, state = cfg["task"], extra["train_iterator"]
    half = "bf16 autocast" if cfg["model"]["bf16_autocast"] else "fp32"
    layout = ", channels_last" if cfg["model"]["channels_last"] else ""
    finished = state["epoch"] - (state["iterations_in_epoch"] == 0)
    return {
        "data": f"{len(trained.class_names)} classes",
        "backbone": model.backbone.name,
        "objective": model.objective.name,
        "tree": str(model.tree),
        "seed": cfg["common"]["seed"],
        "epochs": f"{finished} of {cfg['optimization']['max_epoch']}",
        "updates": trained.updates,
        "batch": cfg["dataset"]["batch_size"],
        "held_out": task["valid_split"],
        "augment": task["augment"] or "okddip",
        "precision": half + layout,
        "held_out_accuracy": "" if extra.get("val_loss") is None else f"{extra['val_loss']:.2f}",
        **costs(model),
        "hours": f"{extra.get('previous_training_time', 0) / 3600:.2f}",
        "torch": torch.__version__,
    }


def costs(model) -> dict:
    """Cost of a step in terms of the plain network's; empty where it depends on a teacher's."""
    if model.objective.needs_teacher:
        return {"parameters_ratio": "", "macs_ratio": ""}
    size = model.backbone.image_size
    plain = model.backbone.plain(model.num_classes)
    classifiers = 2 * sum(projection.weight.numel() for projection in model.projections)
    own = operations(lambda: model(torch.zeros(1, 3, size, size), branches=True)) + classifiers
    theirs = operations(lambda: plain.eval()(torch.zeros(1, 3, size, size)))
    parameters = trained(model) / trained(plain)
    return {"parameters_ratio": f"{parameters:.2f}", "macs_ratio": f"{own / theirs:.2f}"}


def operations(run) -> int:
    """Floating-point operations of a forward pass."""
    with torch.no_grad(), OperationCounter() as counter:
        run()
    return counter.total


def trained(network) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def commit() -> str:
    """The commit of this checkout, with + when it has changes."""
    git = ["git", "-C", str(Path(__file__).parent)]
    found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True
    )
    return found.stdout.strip() + ("+" if changed.stdout.strip() else "")


def append(path: Path, rows) -> None:
    """Adds rows to a CSV file, with a header if it is new."""
    new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
