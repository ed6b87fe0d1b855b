"""Writes folders such as a training and its evaluation leave them, with plausible figures."""

import json
import random
from dataclasses import asdict
from pathlib import Path

from tsa_mt.evaluate.score import score

TEST_SETS = ("test_a", "test_b")
MODELS = ("best", "last")
UPDATES = range(100, 1001, 100)
PER_EPOCH = 200
NOUNS = "dog cat child horse bird house river market train garden".split()
VERBS = "sees follows finds watches leaves likes paints crosses".split()
PLACES = "in the park|near the bridge|at home|on the street|behind the school".split("|")


def references(test_set, sentences=40):
    """The raw references of a test set."""
    draw = random.Random(test_set)
    return [
        f"The {draw.choice(NOUNS)} {draw.choice(VERBS)} the {draw.choice(NOUNS)} "
        f"{draw.choice(PLACES)}, and it is day {number}."
        for number in range(sentences)
    ]


def translations(lines, errors, seed):
    """The lines with a share of their words replaced."""
    draw = random.Random(seed)
    words = [line.split() for line in lines]
    return [
        " ".join(draw.choice(NOUNS) if draw.random() < errors else word for word in line)
        for line in words
    ]


def record(objective, seed, **changes):
    """What run.json holds; ``changes`` replace entries, options among them."""
    leaves = 1 if objective == "independent" else 4
    options = {
        "common.seed": seed,
        "model._name": "tree_transformer_multi30k",
        "model.kd_objective": objective,
        "model.tree": "",
        "optimization.lr": [0.003],
        "dataset.max_tokens": 2048,
    }
    return {
        "format": 1,
        "status": "finished",
        "task": "translation",
        "arch": "tree_transformer_multi30k",
        "method": {
            "objective": objective,
            "tree": "4" if leaves == 1 else "2(1(1,1),1(1,1))",
            "leaves": leaves,
            "options": {} if leaves == 1 else {"strength": 1.0, "temperature": 1.0},
        },
        "seed": seed,
        "options": options,
        "data": {"path": "data-bin", "sha256": "ab" * 32, "files": 8, "content": "whole files"},
        "commit": "959db04",
        "versions": {"tsa_mt": "0.1.0", "torch": "2.13.0", "fairseq": "0.12.3.1"},
        "hardware": {"device": "cpu", "workers": 1, "name": "a CPU"},
        "updates": UPDATES[-1],
        "epochs": UPDATES[-1] // PER_EPOCH,
        "seconds": 600.0 * (1 if leaves == 1 else 2.2) + seed,
        "peak_memory_bytes": 2**30 * leaves,
        "tokens_per_second": 4000.0 / (1 if leaves == 1 else 2.2),
        "training_flops": 1.0e15 * (1 if leaves == 1 else 2.5),
        "parameters": {"training": 3_200_000 + 300_000 * (leaves - 1), "leader": 3_200_000},
        "best": {
            "metric": "loss",
            "value": 4.1,
            "update": 800,
            "epoch": 4,
            "checkpoint": "checkpoint_best.pt",
        },
        "sessions": [{"started": "2026-08-01T10:00:00+00:00", "seconds": 600.0, "updates": 1000}],
        **changes,
    }


def figures(leaves, update, noise):
    """What is logged for a validation."""
    nll = 3.0 + 4.0 * 0.997**update + noise
    figures = {"loss": nll + 1.1, "nll_loss": nll, "ppl": 2**nll, "accuracy": 90 - 10 * nll}
    for leaf in range(leaves):
        figures[f"nll_b{leaf}"] = nll + 0.05 * leaf
    if leaves > 1:
        figures |= {"loss_task": 4 * nll, "loss_kd": 0.4, "agreement": 70 + update / 50}
        figures |= {"kl_leaves": 0.4 - update / 4000, "bleu_ensemble": update / 25 + 1}
    return {**figures, "bleu": update / 25}


def curves(leaves, seed):
    """The lines of curves.csv."""
    draw = random.Random(seed)
    lines = ["update,epoch,split,metric,value"]
    for update in UPDATES:
        epoch = (update - 1) // PER_EPOCH + 1
        values = figures(leaves, update, draw.gauss(0, 0.02))
        inner = {**values, "gnorm": 1.2, "wps": 4000.0, "lr": 0.003, "ramp": min(1, update / 500)}
        splits = {"train_inner": inner}
        if update % PER_EPOCH == 0:
            splits |= {"train": inner, "valid": values}
        for split, found in splits.items():
            shown = {k: v for k, v in found.items() if split == "valid" or "bleu" not in k}
            lines += [f"{update},{epoch},{split},{k},{v:.6g}" for k, v in shown.items()]
    return lines


def generate_log(sources, targets, hypotheses):
    """What fairseq-generate prints: sentences in the order of batches."""
    lines = [f"2026-08-01 10:00:00 | INFO | tasks | data-bin test en-de {len(targets)} examples"]
    for number in sorted(range(len(targets)), key=lambda number: len(targets[number])):
        lines += [
            f"S-{number}\t{sources[number]}",
            f"T-{number}\t{targets[number]}",
            f"H-{number}\t-0.3\t{hypotheses[number]}",
            f"D-{number}\t-0.3\t{hypotheses[number]}",
        ]
    return lines


def write_result(folder, raw, name, test_set, errors, seed):
    """Translations with a share of wrong words, and their scores."""
    lines = references(test_set)
    hypotheses = translations(lines, errors, f"{seed}{name}{test_set}")
    log = generate_log([line.upper() for line in lines], lines, hypotheses)
    write_lines(folder / f"{name}.{test_set}.log", log)
    report = {
        "system": [str(folder / f"{name}.{test_set}.log")],
        "references": [str(raw / f"{test_set}.de")],
        "sentences": len(lines),
        "reference_sets": 1,
        "scores": [asdict(entry) for entry in score(hypotheses, [lines])],
    }
    (folder / f"{name}.{test_set}.json").write_text(json.dumps(report))


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_run(folder, objective="tsa", seed=1, errors=0.1, branches=(), sets=TEST_SETS, **changes):
    """Writes a run's folder, and the raw references beside it.

    Args:
        folder: where; its parent gets the folder ``raw``.
        objective: ``independent`` has one leaf, any other four.
        seed: of the training; changes figures and translations a little.
        errors: share of words that are translated wrongly.
        branches: leaves that translate beside the leader; -1 is the ensemble.
        sets: test sets that are scored.
        **changes: entries of the record.
    """
    folder, raw = Path(folder), Path(folder).parent / "raw"
    for test_set in sets:
        write_lines(raw / f"{test_set}.de", references(test_set))
    entries = record(objective, seed, **changes)
    write_lines(folder / "curves.csv", curves(entries["method"]["leaves"], seed))
    (folder / "run.json").write_text(json.dumps(entries, indent=2))
    (folder / "results").mkdir(exist_ok=True)
    names = [f"{model}{suffix}" for model in MODELS for suffix in suffixes(branches)]
    for name in names:
        for test_set in sets:
            write_result(folder / "results", raw, name, test_set, errors, seed)
    return folder


def suffixes(branches):
    return ["", *(f".branch{branch}" for branch in branches)]
