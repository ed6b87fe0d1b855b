"""A toy language pair, and models trained on it: trees, and a stock Transformer."""

import json
import os
import random
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import sentencepiece

import tsa_mt
from tsa_mt.cli import main as tsa_mt_cli

USER_DIR = Path(tsa_mt.__file__).parent
SCRIPTS = Path(sys.executable).parent
TREE = "1(1(1,2),1)"  # unbalanced: leaf 1 is deeper than the leader, leaf 2 is shallower
PEERS = "0(1(2,1),2)"  # leaf 1 shares the leader's encoder, leaf 2 has its own
SIZE = [
    *("--encoder-layers", "2", "--decoder-layers", "3"),
    *("--encoder-embed-dim", "32", "--decoder-embed-dim", "32"),
    *("--encoder-ffn-embed-dim", "64", "--decoder-ffn-embed-dim", "64"),
    *("--encoder-attention-heads", "2", "--decoder-attention-heads", "2"),
]
TSA = [
    *("--user-dir", str(USER_DIR), "--arch", "tree_transformer_tiny"),
    *("--criterion", "online_kd", "--kd-objective", "tsa"),
]
RICH = [  # every part of a stock Transformer that an export could forget
    "--encoder-normalize-before",
    "--decoder-normalize-before",
    "--encoder-learned-pos",
    "--decoder-learned-pos",
    "--layernorm-embedding",
    *("--activation-fn", "gelu", "--decoder-attention-heads", "4"),
]


def start(*command: object, cwd: Path | None = None) -> subprocess.Popen:
    """Starts a command in a clean environment with one thread."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TORCH"))}
    return subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )


def finish(*processes: subprocess.Popen) -> list[str]:
    """Waits for commands that run side by side; what they printed."""
    printed = []
    try:
        for process in processes:
            out, error = process.communicate(timeout=550)
            assert process.returncode == 0, error[-3000:]
            printed.append(out)
    finally:  # none outlives the test that waited for it
        for process in processes:
            process.kill()
    return printed


@dataclass(frozen=True)
class Toy:
    """A corpus of made-up words; a translation spells every word backwards."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data-bin"

    @property
    def pieces(self) -> Path:
        return self.data / "sentencepiece.bpe.model"

    def raw(self, split: str, language: str) -> list[str]:
        return (self.folder / f"{split}.{language}").read_text().splitlines()

    def generate_arguments(self, model: Path, *more: str) -> list[str]:
        return [
            *(str(self.data), "--path", str(model), "-s", "xx", "-t", "yy", "--beam", "5"),
            *("--required-batch-size-multiple", "1", "--max-tokens", "2000"),
            *("--num-workers", "0", "--cpu", *more),
        ]


def _write_corpus(folder: Path) -> None:
    random_ = random.Random(7)
    syllables = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    words = [first + second for first in syllables[::5] for second in syllables[2::6]][:24]
    for split, count in (("train", 2000), ("valid", 20), ("test", 61)):
        sentences = [random_.choices(words, k=random_.randint(2, 6)) for _ in range(count)]
        source = [" ".join(sentence) + "." for sentence in sentences]
        target = [" ".join(word[::-1] for word in sentence) + "!" for sentence in sentences]
        (folder / f"{split}.xx").write_text("\n".join(source) + "\n")
        (folder / f"{split}.yy").write_text("\n".join(target) + "\n")


def _encode_corpus(folder: Path) -> None:
    sentencepiece.SentencePieceTrainer.train(
        input=[str(folder / "train.xx"), str(folder / "train.yy")],
        model_prefix=str(folder / "pieces"),
        model_type="bpe",
        vocab_size=120,
        num_threads=1,
        minloglevel=2,
    )
    encoder = sentencepiece.SentencePieceProcessor(model_file=str(folder / "pieces.model"))
    for path in [*folder.glob("*.xx"), *folder.glob("*.yy")]:
        lines = [
            " ".join(encoder.encode(line, out_type=str)) for line in path.read_text().splitlines()
        ]
        path.with_name(f"pieces.{path.name}").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Toy:
    folder = tmp_path_factory.mktemp("toy")
    _write_corpus(folder)
    _encode_corpus(folder)
    splits = [
        (f"--{split}pref", folder / f"pieces.{split}") for split in ("train", "valid", "test")
    ]
    command = start(
        *(SCRIPTS / "fairseq-preprocess", "-s", "xx", "-t", "yy", "--joined-dictionary"),
        *(part for pair in splits for part in pair),
        *("--destdir", folder / "data-bin", "--workers", "1"),
    )
    finish(command)
    (folder / "pieces.model").rename(folder / "data-bin" / "sentencepiece.bpe.model")
    return Toy(folder)


def _train(toy: Toy, name: str, updates: int, *arguments: object) -> subprocess.Popen:
    """Trains for some updates (25 an epoch); data and save directory are recorded relative."""
    return start(
        *(SCRIPTS / "fairseq-train", "data-bin", "-s", "xx", "-t", "yy", *SIZE, *arguments),
        *("--label-smoothing", "0.1", "--dropout", "0", "--optimizer", "adam", "--lr", "0.01"),
        *("--lr-scheduler", "inverse_sqrt", "--warmup-updates", "40", "--max-update", updates),
        *("--max-tokens", "500", "--required-batch-size-multiple", "1", "--seed", "1", "--cpu"),
        *("--save-dir", name, "--no-save-optimizer-state", "--disable-validation"),
        *("--keep-last-epochs", "3", "--save-interval-updates", "60", "--num-workers", "0"),
        *("--no-progress-bar", "--log-format", "simple"),
        cwd=toy.folder,
    )


@pytest.fixture(scope="session")
def runs(toy) -> dict[str, Path]:
    """Save directories of the models, all trained side by side.

    ``tree`` has one table for all embeddings and projections, ``separate`` a projection and a
    final norm for every leaf and an encoder for the last one, and ``stock`` is fairseq's own
    Transformer with nothing shared.
    """
    criterion = ["--criterion", "label_smoothed_cross_entropy"]
    flags = ["--tree", PEERS, "--peer-encoders", "--branch-projection", "separate"]
    finish(
        _train(toy, "tree", 200, *TSA, "--tree", TREE, "--share-all-embeddings"),
        _train(toy, "separate", 170, *TSA, *RICH, *flags, "--share-all-embeddings"),
        _train(toy, "stock", 50, "--arch", "transformer_tiny", *criterion),
    )
    return {name: toy.folder / name for name in ("tree", "separate", "stock")}


@pytest.fixture(scope="session")
def tree_run(runs) -> Path:
    return runs["tree"]


@pytest.fixture(scope="session")
def separate_run(runs) -> Path:
    return runs["separate"]


@pytest.fixture(scope="session")
def stock_run(runs) -> Path:
    return runs["stock"]


def code_of_readme(folder: Path, sentence: str) -> str:
    """The Python of an export's README, made to translate a sentence."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert code.count("\n") <= 5
    assert '"A sentence to translate."' in code
    return code.replace('"A sentence to translate."', repr(sentence))


@pytest.fixture
def readme_code():
    """Gives the Python of an export's README, made to translate a sentence."""
    return code_of_readme


@pytest.fixture
def run_readme(toy, monkeypatch, capsys):
    """Runs the README's Python inside an export, on a test sentence; the last line it prints."""

    def run(folder: Path, number: int = 0) -> str:
        monkeypatch.chdir(folder)
        exec(code_of_readme(folder, toy.raw("test", "xx")[number]), {})
        return capsys.readouterr().out.strip().splitlines()[-1]

    return run


@dataclass(frozen=True)
class Decoded:
    """What fairseq-generate said, by name of the job."""

    logs: dict[str, str]
    allowed: list[str]
    imported: bool

    def lines(self, name: str, *kinds: str) -> list[str]:
        prefixes = tuple(f"{kind}-" for kind in kinds)
        return [line for line in self.logs[name].splitlines() if line.startswith(prefixes)]

    def values(self, name: str, kind: str) -> list[str]:
        """The last column of one kind of line, in the order of the corpus."""
        rows = [line[2:].split("\t") for line in self.lines(name, kind)]
        return [row[-1] for row in sorted(rows, key=lambda row: int(row[0]))]

    def text(self, name: str) -> list[str]:
        """The translations without pieces, in the order of the corpus."""
        return [t.replace(" ", "").replace("▁", " ").strip() for t in self.values(name, "H")]


def decode(folder: Path, *batches: dict[str, list[str]]) -> list[Decoded]:
    """Runs fairseq-generate for batches of jobs, every batch in one process of its own."""
    script, processes, outputs = Path(__file__).with_name("decode_all.py"), [], []
    for number, jobs in enumerate(batches):
        outputs.append({name: folder / f"{number}.{name}.log" for name in jobs})
        listing = [{"arguments": jobs[n], "output": str(outputs[-1][n])} for n in jobs]
        path = folder / f"{number}.json"
        path.write_text(json.dumps(listing))
        processes.append(start(sys.executable, script, path))
    states = [json.loads(printed.splitlines()[-1]) for printed in finish(*processes)]
    return [
        Decoded({name: path.read_text() for name, path in files.items()}, **state)
        for files, state in zip(outputs, states, strict=True)
    ]


@dataclass(frozen=True)
class Exports:
    """Every exported branch, with what it generates and what the tree generates with that leaf."""

    folders: dict[str, Path]
    stock: Decoded
    plugin: Decoded


@pytest.fixture(scope="session")
def averaged(tree_run) -> Path:
    """The mean of the tree's last three checkpoints."""
    out = tree_run.parent / "averaged.pt"
    assert tsa_mt_cli(["average", str(tree_run), "--out", str(out), "--last", "3"]) == 0
    return out


@pytest.fixture(scope="session")
def exports(toy, runs, averaged, tmp_path_factory) -> Exports:
    folder = tmp_path_factory.mktemp("exports")
    models = {name: run / "checkpoint_last.pt" for name, run in runs.items()}
    models["averaged"] = averaged
    branches = {"tree": 3, "separate": 3, "stock": 1, "averaged": 1}
    folders, exported, trees = {}, {}, {}
    for model, count in branches.items():
        for branch in range(count):
            name = f"{model}{branch}"
            folders[name] = folder / name
            source, out = str(models[model]), str(folders[name])
            arguments = ["export", source, out, "--to", "fairseq", "--branch", str(branch)]
            assert tsa_mt_cli([*arguments, "--no-certificate"]) == 0
            exported[name] = toy.generate_arguments(folders[name] / "model.pt")
            plugin = ["--user-dir", str(USER_DIR)]
            if model != "stock":
                plugin += ["--model-overrides", f"{{'decode_branch': {branch}}}"]
            trees[name] = toy.generate_arguments(models[model], *plugin)
    return Exports(folders, *decode(folder, exported, trees))
