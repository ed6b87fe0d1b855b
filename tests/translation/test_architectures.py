"""Every named architecture is fairseq's of that name when its tree is a chain."""

from dataclasses import fields, is_dataclass

import pytest
import torch
from fairseq import options
from fairseq.models import ARCH_MODEL_REGISTRY, build_model
from omegaconf import OmegaConf

from tsa_mt.translation.architectures import ARCHITECTURES
from tsa_mt.translation.config import TreeTransformerConfig

SHALLOW = {
    "iwslt_de_en_12_1": ("iwslt_de_en", 12, 1),
    "iwslt_de_en_6_2": ("iwslt_de_en", 6, 2),
    "wmt_en_de_12_1": ("wmt_en_de", 12, 1),
    "wmt_en_de_6_2": ("wmt_en_de", 6, 2),
}
MULTI30K = (
    "--encoder-layers 4 --decoder-layers 4 --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 "
    "--encoder-attention-heads 4 --decoder-attention-heads 4 --dropout 0.3"
)
# name: fairseq's architecture and the flags that make it the same
STOCK = {
    "tree_transformer": ("transformer", ""),
    "tree_transformer_multi30k": ("transformer", MULTI30K),
    **{
        f"tree_transformer_{size}": (
            f"transformer_{stock}",
            f"--encoder-layers {encoder} --decoder-layers {decoder}",
        )
        for size, (stock, encoder, decoder) in SHALLOW.items()
    },
}


def parse(arch, *flags):
    """Arguments as fairseq-train parses them."""
    parser = options.get_training_parser(default_task="translation")
    return options.parse_args_and_arch(parser, ["data", "--arch", arch, *flags])


def without_memory(args, task):
    with torch.device("meta"):
        return ARCH_MODEL_REGISTRY[args.arch].build_model(args, task)


def values(config, prefix=""):
    found = {}
    for option in fields(config):
        value = getattr(config, option.name)
        if is_dataclass(value):
            found.update(values(value, f"{prefix}{option.name}."))
        elif option.name != "_name":
            found[prefix + option.name] = value
    return found


@pytest.mark.parametrize("name", ["tree_transformer", *ARCHITECTURES])
def test_a_named_architecture_with_a_chain_is_fairseq_s_of_that_name(name, task):
    arch, flags = STOCK.get(name, (name.removeprefix("tree_"), ""))
    ours = without_memory(parse(name, "--tree", "chain"), task)
    theirs = without_memory(parse(arch, *flags.split()), task)
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert list(shapes[0]) == list(shapes[1])
    assert values(ours.cfg) == values(theirs.cfg)


def test_flags_override_an_architecture(task):
    sizes = "--encoder-embed-dim 32 --decoder-embed-dim 32 --decoder-ffn-embed-dim 48"
    flags = f"{sizes} --decoder-layers 3 --tree 1(2,2)".split()
    model = without_memory(parse("tree_transformer_iwslt_de_en", *flags), task)
    assert model.encoder.embed_tokens.embedding_dim == model.decoder.embed_dim == 32
    assert {layer.fc1.out_features for layer in model.decoder.layers} == {48}
    assert (str(model.tree), len(model.decoder.layers)) == ("1(2,2)", 3)


@pytest.mark.parametrize(
    ("name", "tree"),
    [
        ("tree_transformer", "2(2(2,2),2(2,2))"),
        ("tree_transformer_multi30k", "2(1(1,1),1(1,1))"),
        ("tree_transformer_iwslt_de_en_12_1", "0(1,1,1,1)"),
        ("tree_transformer_iwslt_de_en_6_2", "1(1,1,1,1)"),
        ("tree_transformer_wmt_en_de_12_1", "0(1,1,1,1)"),
        ("tree_transformer_wmt_en_de_6_2", "1(1,1,1,1)"),
    ],
)
def test_an_architecture_s_tree_makes_sense_for_its_decoder(name, tree, task):
    assert str(without_memory(parse(name), task).tree) == tree


@pytest.mark.parametrize("name", ["tree_transformer_wmt_en_de_6_2", "tree_transformer_multi30k"])
def test_a_given_tree_and_another_objective_s_own_come_first(name, task):
    depth = 2 if name.endswith("6_2") else 4
    assert str(without_memory(parse(name, "--tree", "peers"), task).tree) == (
        f"0({depth},{depth},{depth},{depth})"
    )
    independent = parse(name, "--kd-objective", "independent")
    assert str(without_memory(independent, task).tree) == str(depth)


@pytest.mark.parametrize("name", ["tree_transformer_multi30k", "tree_transformer_wmt_en_de_12_1"])
def test_a_name_that_would_have_no_effect_in_a_yaml_is_refused_with_its_sizes(name, task):
    # what fairseq-hydra-train makes of `model: {_name: NAME}`
    config = OmegaConf.structured(TreeTransformerConfig(_name=name, ddp_backend="pytorch_ddp"))
    with pytest.raises(ValueError, match="has no effect in a YAML config") as caught:
        build_model(config, task)
    assert "write _name: tree_transformer with the sizes: " in str(caught.value)
    size = "decoder_layers: 1" if name.endswith("12_1") else "encoder_embed_dim: 128"
    assert size in str(caught.value)
