"""A tiny data-bin made in this process, and fairseq-train run in it."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for naive_losses

WORDS = [f"w{number}" for number in range(24)]
SIZE = (
    *("--encoder-layers", "1", "--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "16"),
    *("--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "16"),
    *("--encoder-attention-heads", "2", "--decoder-attention-heads", "2"),
)


def sentences(count, seed):
    draw = random.Random(seed)
    return [[draw.choice(WORDS) for _ in range(draw.randint(2, 7))] for _ in range(count)]


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A data-bin of 48 sentence pairs: a translation is the source backwards."""
    from fairseq.data import Dictionary
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    folder = tmp_path_factory.mktemp("data-bin")
    dictionary = Dictionary()
    for word in WORDS:
        dictionary.add_symbol(word)
    for language in ("en", "de"):
        dictionary.save(str(folder / f"dict.{language}.txt"))
        for split, count in (("train", 48), ("valid", 8)):
            prefix = str(folder / f"{split}.en-de.{language}")
            builder = MMapIndexedDatasetBuilder(f"{prefix}.bin", dtype=np.int32)
            for words in sentences(count, seed=split):
                words = words if language == "en" else words[::-1]
                builder.add_item(dictionary.encode_line(" ".join(words), add_if_not_exist=False))
            builder.finalize(f"{prefix}.idx")
    return folder


def training_command(data, save_dir, *arguments):
    """Arguments of fairseq-train for the tiny data; later ones win."""
    return [
        *(str(data), "--task", "translation", "--source-lang", "en", "--target-lang", "de"),
        *("--arch", "tree_transformer_tiny", *SIZE, "--criterion", "online_kd"),
        *("--optimizer", "adam", "--lr", "0.003", "--max-tokens", "80", "--seed", "3", "--cpu"),
        *("--required-batch-size-multiple", "1", "--num-workers", "0", "--disable-validation"),
        *("--no-progress-bar", "--log-format", "none", "--no-epoch-checkpoints"),
        *("--save-dir", str(save_dir)),
        *map(str, arguments),
    ]


@pytest.fixture(scope="session")
def command():
    """`training_command`."""
    return training_command


@pytest.fixture(scope="session")
def train():
    """Runs fairseq-train in this process; gives the last checkpoint it wrote."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq_cli.train import main

    def run(data, save_dir, *arguments):
        parser = options.get_training_parser()
        args = options.parse_args_and_arch(parser, training_command(data, save_dir, *arguments))
        main(convert_namespace_to_omegaconf(args))
        return torch.load(save_dir / "checkpoint_last.pt", weights_only=False)

    return run
