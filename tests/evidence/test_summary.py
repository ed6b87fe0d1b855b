"""benchmarks/evidence: the short table of a comparison."""

import gzip
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tsa_mt.evaluate.score import score

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "evidence"
MODULES = ("corpus", "runs", "training", "pooled", "summary")
REFERENCES = [f"the dog number {n} runs over the green field at {n} o'clock" for n in range(40)]


@pytest.fixture
def summary(monkeypatch):
    """The module's function, without traces in ``sys``."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("summary").summary
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def write(tmp_path):
    """Writes the record of a run, every so manieth sentence of which is wrong."""
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "pooled.de").write_text("\n".join(REFERENCES) + "\n")

    def run(system, seed, tree, objective, every):
        folder = tmp_path / f"{system}-s{seed}"
        (folder / "results").mkdir(parents=True)
        leaves = 1 + tree.count(",")
        method = {"objective": objective, "tree": tree, "leaves": leaves, "options": {}}
        record = {"format": 1, "status": "finished", "task": "translation", "arch": "a"}
        record |= {"method": method, "seed": seed, "options": {"model.tree": tree}}
        record |= {"data": {"sha256": "ab"}, "commit": "c", "versions": {}, "hardware": {}}
        (folder / "run.json").write_text(json.dumps({**record, "updates": 1500}))
        seconds = {"training_seconds": {"wall": 9999, "cpu": 360.0}}
        (folder / "record.json").write_text(json.dumps(seconds))
        texts = [
            line.replace("green", "red") if number % every == 0 else line
            for number, line in enumerate(REFERENCES)
        ]
        log = "".join(f"D-{number}\t-1\t{text}\n" for number, text in enumerate(texts))
        stem = folder / "results" / "average10.pooled"
        stem.with_suffix(".pooled.log.gz").write_bytes(gzip.compress(log.encode()))
        report = {"scores": [asdict(entry) for entry in score(texts, [REFERENCES])]}
        report |= {"references": ["references/pooled.de"], "sentences": len(texts)}
        stem.with_suffix(".pooled.json").write_text(json.dumps(report))
        return f"{system}={folder}"

    return run


def test_a_method_is_compared_with_the_plain_network_and_with_its_control(summary, write, tmp_path):
    runs = [write("plain", seed, "4", "independent", 3) for seed in (1, 2)]
    runs += [write("control", 1, "0(4,4)", "independent", 4)]
    runs += [write("ours", 1, "0(4,4)", "tsa", 9)]
    head, _, plain, control, ours = summary(runs, "plain", tmp_path).splitlines()
    assert head.endswith("| BLEU, pooled | against plain | against its control |")
    assert plain.startswith("| plain | 2 | 1,500 | 0.100 | ") and plain.endswith(" |  |  |")
    assert "± 0.00" in plain
    assert "1 seed |  |" in control
    assert ours.count("1 seed") == 2 and ours.count("| +") == 2
