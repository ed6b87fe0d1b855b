"""A toy language pair, a stock Transformer trained on it as teacher, and fairseq run in process."""

import contextlib
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils, options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import generate, preprocess, train

from tsa_mt import teacher as teacher_module

LANGUAGES = ("xx", "yy")
SIZES = {"train": 48, "valid": 9, "test": 11}


def tiny(width: int, layers: int) -> list[str]:
    """Size flags of a network."""
    flags = []
    for side in ("encoder", "decoder"):
        flags += [f"--{side}-embed-dim", width, f"--{side}-ffn-embed-dim", 2 * width]
        flags += [f"--{side}-layers", layers, f"--{side}-attention-heads", 2]
    return [*map(str, flags), "--share-decoder-input-output-embed", "--dropout", "0.1"]


@dataclass(frozen=True)
class Toy:
    """A binarised corpus; a translation says every word twice, backwards."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data-bin"

    def train(self, save: Path, *flags: object, updates: int = 4) -> Path:
        """Trains in this process; the last checkpoint."""
        if hasattr(checkpoint_utils.save_checkpoint, "best"):
            del checkpoint_utils.save_checkpoint.best
        arguments = self.training_arguments(save, *flags, updates=updates)
        parsed = options.parse_args_and_arch(options.get_training_parser(), arguments)
        train.main(convert_namespace_to_omegaconf(parsed))
        return save / "checkpoint_last.pt"

    def training_arguments(self, save: Path, *flags: object, updates: int) -> list[str]:
        """The arguments of fairseq-train."""
        arguments = [
            *(self.data, "--save-dir", save, "-s", "xx", "-t", "yy", "--cpu", "--seed", 3),
            *("--optimizer", "adam", "--lr", "0.005", "--max-tokens", 120, "--num-workers", 0),
            *("--max-update", updates, "--log-format", "none", "--disable-validation"),
            *("--required-batch-size-multiple", 1, *flags),
        ]
        return [*map(str, arguments)]

    def generate(self, checkpoint: Path, out: Path, *flags: object, split="test") -> list[str]:
        """Hypotheses of a split in order of their numbers."""
        arguments = [
            *(self.data, "--path", checkpoint, "-s", "xx", "-t", "yy", "--beam", 2, "--cpu"),
            *("--required-batch-size-multiple", 1, "--results-path", out, "--num-workers", 0),
            *("--max-len-b", 20, "--gen-subset", split, *flags),
        ]
        parser = options.get_generation_parser()
        with contextlib.redirect_stdout(None):
            generate.main(options.parse_args_and_arch(parser, [*map(str, arguments)]))
        lines = (out / f"generate-{split}.txt").read_text().splitlines()
        numbered = [line[2:].split("\t") for line in lines if line.startswith("H-")]
        return [text for _, _, text in sorted(numbered, key=lambda each: int(each[0]))]

    def task(self, *flags: object):
        """The translation task over this corpus."""
        arguments = [self.data, "-s", "xx", "-t", "yy", "--arch", "transformer", *flags]
        parsed = options.parse_args_and_arch(options.get_training_parser(), [*map(str, arguments)])
        return tasks.setup_task(convert_namespace_to_omegaconf(parsed).task)

    def batch(self, task) -> dict:
        """Nine sentences of the validation set."""
        task.load_dataset("valid")
        dataset = task.dataset("valid")
        return dataset.collater([dataset[i] for i in range(len(dataset))])


def binarise(folder: Path, *flags: object) -> None:
    """Runs fairseq-preprocess over ``{train,valid,test}.{xx,yy}`` of a folder."""
    arguments = ["-s", "xx", "-t", "yy", "--destdir", folder / "data-bin", "--workers", 1, *flags]
    for split in SIZES:
        arguments += [f"--{split}pref", folder / split]
    parser = options.get_preprocessing_parser()
    preprocess.main(parser.parse_args([*map(str, arguments)]))


def write_corpus(folder: Path, words: int = 14, seed: int = 1) -> None:
    draw = random.Random(seed)
    vocabulary = [f"w{number}" for number in range(words)]
    for split, count in SIZES.items():
        sentences = [draw.choices(vocabulary, k=draw.randint(2, 6)) for _ in range(count)]
        doubled = [[w[::-1] for w in sentence for _ in range(2)] for sentence in sentences]
        (folder / f"{split}.xx").write_text("".join(" ".join(s) + "\n" for s in sentences))
        (folder / f"{split}.yy").write_text("".join(" ".join(s) + "\n" for s in doubled))


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Toy:
    folder = tmp_path_factory.mktemp("toy")
    write_corpus(folder)
    binarise(folder)
    return Toy(folder)


@pytest.fixture(scope="session")
def teacher_file(toy) -> Path:
    """A stock Transformer of width 24 and three layers, trained for 30 updates."""
    flags = ("--arch", "transformer", *tiny(24, 3), "--decoder-normalize-before")
    last = toy.train(toy.folder / "teacher", *flags, "--no-epoch-checkpoints", updates=30)
    return last.rename(toy.folder / "teacher.pt")


@pytest.fixture(autouse=True)
def no_teacher_remembered():
    """Each test loads its own teachers."""
    yield
    teacher_module._LOADED.clear()


@pytest.fixture
def weights():
    """Reads the weights of a checkpoint."""
    return lambda path: torch.load(path, weights_only=False)["model"]
