"""A data-bin of reversed sentences, and fairseq-train run on it in this process."""

import importlib
import random
import sys

import numpy as np

WORDS = [f"w{number}" for number in range(24)]
SPLITS = {"train": 48, "valid": 8}
SIZE = (
    "--encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 16 --decoder-layers 2 "
    "--decoder-embed-dim 16 --decoder-ffn-embed-dim 16 --encoder-attention-heads 2 "
    "--decoder-attention-heads 2"
).split()
TREE = [*"--arch tree_transformer_tiny --criterion online_kd --kd-objective".split()]
STOCK = "--arch transformer_tiny --criterion label_smoothed_cross_entropy".split()
ALWAYS = (
    "--task translation --source-lang en --target-lang de --optimizer adam --lr 0.003 --cpu "
    "--max-tokens 80 --seed 3 --num-workers 0 --required-batch-size-multiple 1 "
    "--log-format none --log-interval 2 --no-epoch-checkpoints --max-update 4"
).split()


def write_data(folder):
    """Writes the data-bin: a translation is the source backwards."""
    from fairseq.data import Dictionary
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    dictionary = Dictionary()
    for word in WORDS:
        dictionary.add_symbol(word)
    for language, order in (("en", 1), ("de", -1)):
        dictionary.save(str(folder / f"dict.{language}.txt"))
        for split, count in SPLITS.items():
            draw = random.Random(split)
            prefix = str(folder / f"{split}.en-de.{language}")
            builder = MMapIndexedDatasetBuilder(f"{prefix}.bin", dtype=np.int32)
            for _ in range(count):
                words = draw.choices(WORDS, k=draw.randint(2, 7))[::order]
                builder.add_item(dictionary.encode_line(" ".join(words), add_if_not_exist=False))
            builder.finalize(f"{prefix}.idx")
    return folder


def arguments(data, save_dir, *more):
    """The command line of a training; later flags win."""
    return [str(data), *ALWAYS, *SIZE, "--save-dir", str(save_dir), *map(str, more)]


def train(data, save_dir, *more):
    """fairseq-train in this process."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    command = importlib.import_module("fairseq_cli.train")
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, arguments(data, save_dir, *more))
    command.main(convert_namespace_to_omegaconf(args))


def main():
    """fairseq-train as a process of its own: the arguments are fairseq's."""
    from tsa_mt import plugin

    plugin.register()
    sys.argv[0] = "fairseq-train"
    importlib.import_module("fairseq_cli.train").cli_main()


if __name__ == "__main__":
    main()
