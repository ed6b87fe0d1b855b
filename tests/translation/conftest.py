"""Small tree Transformers and stock ones of the same shape, and batches with padding."""

from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

TREE = "1(1(1,2),1)"  # three layers for the leader, four for leaf 1, two for leaf 2
SIZE = {
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_layers": 3,
    "decoder_attention_heads": 2,
    "dropout": 0.0,
}
WORDS = 30


@pytest.fixture(scope="session")
def task():
    """What a model asks of a translation task."""
    dictionary = Dictionary()
    for number in range(WORDS):
        dictionary.add_symbol(f"w{number}")
    return SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)


@pytest.fixture(scope="session")
def build(task):
    """Builds a model of an architecture, with a seed for its weights."""

    def function(arch="tree_transformer_tiny", seed=1, **options):
        args = Namespace(arch=arch, **{**SIZE, **options})
        ARCH_CONFIG_REGISTRY[arch](args)
        torch.manual_seed(seed)
        model = ARCH_MODEL_REGISTRY[arch].build_model(args, task)
        model.args_given = args  # as a checkpoint records them
        return model

    return function


@pytest.fixture(scope="session")
def tree(build):
    """A tree Transformer with the tree of the tests."""

    def function(tree=TREE, **options):
        return build(tree=tree, **options)

    return function


@pytest.fixture(scope="session")
def stock(build):
    """fairseq's own Transformer of the same size."""

    def function(**options):
        return build("transformer_tiny", **options)

    return function


def pad(rows, value, left=False):
    """Rows of different lengths as one tensor."""
    width = max(len(row) for row in rows)
    blank = [[value] * (width - len(row)) for row in rows]
    pairs = zip(blank, rows, strict=True)
    return torch.tensor([space + row if left else row + space for space, row in pairs])


@pytest.fixture
def sample(task):
    """A batch as fairseq collates it: source padded left, target right."""

    def function(source=(5, 3, 4), target=(4, 6, 2), seed=0):
        dictionary = task.target_dictionary
        generator = torch.Generator().manual_seed(seed)

        def draw(length):
            span = (dictionary.nspecial, len(dictionary))
            words = torch.randint(*span, (length,), generator=generator)
            return [*words.tolist(), dictionary.eos()]

        sources, targets = [draw(n) for n in source], [draw(n) for n in target]
        shifted = [row[-1:] + row[:-1] for row in targets]
        return {
            "id": torch.arange(len(source)),
            "nsentences": len(source),
            "ntokens": sum(len(row) for row in targets),
            "net_input": {
                "src_tokens": pad(sources, dictionary.pad(), left=True),
                "src_lengths": torch.tensor([len(row) for row in sources]),
                "prev_output_tokens": pad(shifted, dictionary.pad()),
            },
            "target": pad(targets, dictionary.pad()),
        }

    return function


@pytest.fixture(scope="session")
def leaf_alone(stock):
    """One leaf of a tree as a stock Transformer, by renaming parameters."""

    def function(model, leaf, **options):
        state, tree = model.state_dict(), model.tree
        plain = {key: value for key, value in state.items() if ".branches." not in key}
        depths = {"decoder_layers": tree.decoder.paths[leaf][-1].stop}
        if leaf:
            plain = {k: v for k, v in plain.items() if not k.startswith("decoder.layers.")}
            plain.update(_layers_of(tree.decoder, leaf, state, "decoder"))
            own = {
                f"decoder.branches.layer_norms.{leaf}.weight": "decoder.layer_norm.weight",
                f"decoder.branches.layer_norms.{leaf}.bias": "decoder.layer_norm.bias",
                f"decoder.branches.output_projections.{leaf}.weight": (
                    "decoder.output_projection.weight"
                ),
            }
            plain.update({new: state[old] for old, new in own.items() if old in state})
        if tree.spans_encoder:
            depths["encoder_layers"] = tree.encoder.paths[leaf][-1].stop
            plain = {k: v for k, v in plain.items() if not k.startswith("encoder.layers.")}
            plain.update(_layers_of(tree.encoder, leaf, state, "encoder"))
            for node in tree.paths[leaf]:
                for part in ("embed_positions", "layernorm_embedding", "layer_norm"):
                    prefix = f"encoder.branches.{node.index}.{part}."
                    found = {k.removeprefix(prefix): k for k in state if k.startswith(prefix)}
                    plain.update({f"encoder.{part}.{k}": state[v] for k, v in found.items()})
        alone = stock(**{**options, **depths})
        alone.load_state_dict(plain, strict=True)
        return alone.eval()

    return function


def _layers_of(tree, leaf, state, side):
    """The parameters of a path's layers under a stock decoder's or encoder's names."""
    leader = {node.index for node in tree.leader}
    layers, depth = {}, 0
    for node in tree.paths[leaf]:
        for number in range(node.layers):
            own = {
                "decoder": f"decoder.branches.nodes.{node.index}.{number}.",
                "encoder": f"encoder.branches.{node.index}.layers.{number}.",
            }[side]
            prefix = f"{side}.layers.{depth}." if node.index in leader else own
            found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            assert found
            layers.update({f"{side}.layers.{depth}.{k}": v for k, v in found.items()})
            depth += 1
    return layers
