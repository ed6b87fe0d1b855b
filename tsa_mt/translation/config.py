"""The flat configuration of a tree Transformer.

fairseq's nested ``TransformerConfig`` loses sizes given on the command line when it is registered
as a model's dataclass, so its fields are flattened here (``encoder_embed_dim`` and so on), as
``transformer_lm`` does. Everything is derived from the installed fairseq; no default is copied.
"""

import dataclasses
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any, List, Tuple

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models.transformer import TransformerConfig
from omegaconf import II, DictConfig, OmegaConf

from tsa_mt.modeling import ObjectiveFields

NESTED = ("encoder", "decoder", "quant_noise")
FLAT_REFERENCES = {
    "${model.decoder.embed_dim}": "${model.decoder_embed_dim}",
}


def _flat_fields() -> List[Tuple[str, Any, dataclasses.Field]]:
    """The fields of fairseq's Transformer config under their command-line names."""
    flat = []
    outer: Any
    for outer in dataclasses.fields(TransformerConfig):
        if outer.name == "_name":
            continue
        if outer.name not in NESTED:
            flat.append((outer.name, outer.type, _copy(outer)))
            continue
        for inner in dataclasses.fields(outer.type):
            if inner.name != "_name":
                flat.append((f"{outer.name}_{inner.name}", inner.type, _copy(inner)))
    return flat


def _copy(original: dataclasses.Field) -> dataclasses.Field:
    default: Any = original.default
    if isinstance(default, str):
        default = FLAT_REFERENCES.get(default, default)
    if original.default_factory is not dataclasses.MISSING:
        return field(default_factory=original.default_factory, metadata=dict(original.metadata))
    return field(default=default, metadata=dict(original.metadata))


FlatTransformerConfig: Any = dataclasses.make_dataclass(
    "FlatTransformerConfig", _flat_fields(), bases=(FairseqDataclass,)
)
"""fairseq's Transformer options, flat."""


@dataclass
class TreeTransformerConfig(ObjectiveFields, FlatTransformerConfig):
    """Options of ``--arch tree_transformer``: fairseq's own, the tree's and the objective's."""

    tree: str = field(
        default="",
        metadata={
            "help": "tree of decoder layers such as '2(2(2,2),2(2,2))', or of the whole network, "
            "'/' marking where decoders begin: '4(2/2(4,4),2/2(4,4))'; or a preset (chain, tsa, "
            "tsa_unbalanced, fork, ladder, peers, tsa_network); empty = the objective's own "
            "preset, peers with --peer-encoders"
        },
    )
    branch_projection: ChoiceEnum(["shared", "separate"]) = field(  # type: ignore[valid-type]
        default="shared",
        metadata={"help": "whether the leaves share the output projection or have their own"},
    )
    branch_init: ChoiceEnum(["fresh", "copy"]) = field(  # type: ignore[valid-type]
        default="fresh",
        metadata={
            "help": "how branches start when a plain Transformer checkpoint is loaded: newly "
            "drawn, or copied from the leader's layers"
        },
    )
    peer_encoders: bool = field(
        default=False,
        metadata={
            "help": "give every branch at the root its own encoder: '0(6,6,6)' becomes "
            "'0(6/6,6/6,6/6)', which --tree may say as well; embeddings stay shared"
        },
    )
    decode_branch: int = field(
        default=0,
        metadata={
            "help": "which leaf decodes: 0 the leader, k another leaf, -1 the ensemble of all, -2 "
            "the leader of the moving average that pcl and mean_teacher keep "
            "(after training through --model-overrides \"{'decode_branch': k}\")"
        },
    )
    ddp_backend: str = II("distributed_training.ddp_backend")


def flat_namespace(cfg: Any) -> Namespace:
    """A model config of any kind as a plain namespace with every field present.

    Configs of named architectures, and of checkpoints from earlier versions, may lack fields:
    fairseq fills in defaults only for the base architecture's name.
    """
    values: Any
    if isinstance(cfg, DictConfig):
        values = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    else:
        values = dict(vars(cfg))
    defaults = TreeTransformerConfig()
    for option in dataclasses.fields(TreeTransformerConfig):
        value = values.get(option.name, _default(defaults, option.name))
        values[option.name] = value
    for side in ("input", "output"):
        key = f"decoder_{side}_dim"
        if isinstance(values[key], str):  # an interpolation that nobody resolved
            values[key] = values["decoder_embed_dim"]
    return Namespace(**values)


def _default(defaults: TreeTransformerConfig, name: str) -> Any:
    value = getattr(defaults, name)
    return value.value if hasattr(value, "value") else value
