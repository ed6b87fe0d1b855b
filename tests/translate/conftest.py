"""The toy language pair and the tiny tree of the export tests, and what fairseq-generate says."""

import importlib.util
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tsa_mt.cli import main as tsa_mt_cli


def _export_fixtures():
    """The module of the export tests' fixtures, whose corpus and training serve here too."""
    path = Path(__file__).resolve().parents[1] / "export" / "conftest.py"
    spec = importlib.util.spec_from_file_location("export_fixtures", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = _export_fixtures()
toy = made.toy


@dataclass(frozen=True)
class Models:
    """A tree's checkpoint and the exports of its leader."""

    tree: Path
    fairseq: Path
    ctranslate2: Path


@pytest.fixture(scope="session")
def models(toy, tmp_path_factory) -> Models:
    pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    flags = [*made.TSA, "--tree", made.TREE, "--share-all-embeddings"]
    made.finish(made._train(toy, "translating", 150, *flags))
    folder = tmp_path_factory.mktemp("models")
    found = Models(
        toy.folder / "translating" / "checkpoint_last.pt", folder / "fairseq", folder / "ct2"
    )
    for format_, out in (("fairseq", found.fairseq), ("ctranslate2", found.ctranslate2)):
        assert tsa_mt_cli(["export", str(found.tree), str(out), "--to", format_]) == 0
    return found


@pytest.fixture(scope="session")
def raw(toy) -> list[str]:
    """The test set as text."""
    return toy.raw("test", "xx")


@pytest.fixture(scope="session")
def pieces(toy) -> list[list[str]]:
    """The test set as subword pieces."""
    return [line.split() for line in toy.raw("pieces.test", "xx")]


@dataclass(frozen=True)
class Generated:
    """Hypotheses of fairseq-generate in the order of the corpus: pieces and natural log scores."""

    tokens: list[tuple[str, ...]]
    scores: list[float]


@pytest.fixture(scope="session")
def generated(toy, models, tmp_path_factory) -> dict[int, Generated]:
    """What fairseq-generate makes of the test set, by branch."""
    plugin = ["--user-dir", str(made.USER_DIR)]
    jobs = {
        str(branch): toy.generate_arguments(
            models.tree, *plugin, "--model-overrides", f"{{'decode_branch': {branch}}}"
        )
        for branch in (0, 1, -1)
    }
    (decoded,) = made.decode(tmp_path_factory.mktemp("generated"), jobs)
    return {int(name): _generated(decoded, name) for name in jobs}


def _generated(decoded, name: str) -> Generated:
    rows = [line[2:].split("\t") for line in decoded.lines(name, "H")]
    rows.sort(key=lambda row: int(row[0]))
    scores = [float(score) * math.log(2) for _, score, _ in rows]
    return Generated([tuple(text.split()) for _, _, text in rows], scores)
