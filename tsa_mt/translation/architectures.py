"""Named architectures of the tree Transformer.

Those with a stock name (``tree_transformer_iwslt_de_en`` and so on) are fairseq's architecture of
that name; with ``--tree chain`` they are the very same network. ``_12_1`` and ``_6_2`` are deep
encoders with shallow decoders, the shape that decodes fast (Kasai et al., ICLR 2021,
https://arxiv.org/abs/2006.10369).
"""

from argparse import Namespace
from typing import Any, Callable, Dict

from fairseq.models import register_model_architecture
from fairseq.models.transformer.transformer_legacy import (
    base_architecture,
    tiny_architecture,
    transformer_iwslt_de_en,
    transformer_vaswani_wmt_en_de_big,
    transformer_wmt_en_de,
    transformer_wmt_en_de_big,
)
from omegaconf import DictConfig

from tsa_mt.translation.config import TreeTransformerConfig
from tsa_mt.translation.model import NAME


def _default(args: Namespace, **values) -> None:
    """Sets what neither the command line nor a more specific architecture has set."""
    for name, value in values.items():
        setattr(args, name, getattr(args, name, value))


def _multi30k(args: Namespace) -> None:
    """The small Transformer of the Multi30k literature (Wu et al., ACL 2021)."""
    _default(
        args,
        encoder_embed_dim=128,
        encoder_ffn_embed_dim=256,
        encoder_layers=4,
        encoder_attention_heads=4,
        decoder_layers=4,
        decoder_attention_heads=4,
        dropout=0.3,
    )
    base_architecture(args)


def _shallow(size: Callable, encoder_layers: int, decoder_layers: int, tree: str) -> Callable:
    """An architecture of another depth, with a tree that makes sense for its short decoder."""

    def architecture(args: Namespace) -> None:
        _default(args, encoder_layers=encoder_layers, decoder_layers=decoder_layers)
        if getattr(args, "kd_objective", "tsa") == "tsa":
            _default(args, tree=tree)
        size(args)

    return architecture


ARCHITECTURES = {
    "tree_transformer_tiny": tiny_architecture,
    "tree_transformer_multi30k": _multi30k,
    "tree_transformer_iwslt_de_en": transformer_iwslt_de_en,
    "tree_transformer_wmt_en_de": transformer_wmt_en_de,
    "tree_transformer_wmt_en_de_big": transformer_wmt_en_de_big,
    "tree_transformer_vaswani_wmt_en_de_big": transformer_vaswani_wmt_en_de_big,
    "tree_transformer_iwslt_de_en_12_1": _shallow(transformer_iwslt_de_en, 12, 1, "0(1,1,1,1)"),
    "tree_transformer_iwslt_de_en_6_2": _shallow(transformer_iwslt_de_en, 6, 2, "1(1,1,1,1)"),
    "tree_transformer_wmt_en_de_12_1": _shallow(transformer_wmt_en_de, 12, 1, "0(1,1,1,1)"),
    "tree_transformer_wmt_en_de_6_2": _shallow(transformer_wmt_en_de, 6, 2, "1(1,1,1,1)"),
}
"""Architecture functions by name; ``tree_transformer`` itself has the dataclass's defaults."""

BASE = vars(TreeTransformerConfig())
"""What the base architecture, ``tree_transformer`` itself, sets."""


def _sizes(function: Callable) -> Dict[str, Any]:
    """What an architecture sets other than the base architecture does."""
    own = Namespace()
    function(own)
    return {
        name: value
        for name, value in vars(own).items()
        if BASE.get(name, value) != value and not str(BASE[name]).startswith("${")  # interpolated
    }


def _guarded(name: str, function: Callable) -> Callable:
    """The architecture, refused where its name would have no effect.

    On the command line fairseq applies it to what was typed. A YAML config comes with the base
    sizes already filled in, and would silently build the base network under another name.
    """

    def architecture(args: Any) -> None:
        sizes = _sizes(function) if isinstance(args, DictConfig) else {}
        if sizes and all(args.get(option) == BASE[option] for option in sizes):
            listing = ", ".join(f"{option}: {value}" for option, value in sizes.items())
            raise ValueError(
                f"the name {name!r} has no effect in a YAML config, where fairseq fills in the "
                f"base sizes first; write _name: {NAME} with the sizes: {listing}"
            )
        function(args)

    return architecture


for _name, _function in ARCHITECTURES.items():
    register_model_architecture(NAME, _name)(_guarded(_name, _function))
