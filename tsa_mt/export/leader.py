"""One branch of a tree as a plain Transformer, under the names that stock fairseq gives it.

A tree checkpoint keeps its leader under stock names and everything else below a component called
``branches``, so the leader is what remains when those entries are dropped. Another leaf is laid
over it: the layers of its path in decoder and encoder, the norms and positions that are its own,
and its projection where it has one, take the leader's names.
A checkpoint of a stock Transformer passes through unchanged.
"""

import re
from argparse import Namespace
from dataclasses import dataclass, fields
from typing import Any, Dict, Optional

from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from fairseq.models.transformer import base_architecture
from fairseq.tasks.translation import TranslationConfig
from torch import Tensor

from tsa_mt.averaged import averaged_weights
from tsa_mt.export.checkpoint import SourceFile, StateDict, compact, options_of
from tsa_mt.sources import AVERAGED
from tsa_mt.translation.config import FlatTransformerConfig, flat_namespace
from tsa_mt.translation.model import NAME, resolve_tree
from tsa_mt.translation.warm_start import drop_fast_path_copies
from tsa_mt.tree import Tree

NODE_LAYER = re.compile(
    r"(?:encoder\.branches\.(\d+)\.layers|decoder\.branches\.nodes\.(\d+))\.(\d+)\.(.+)"
)
# Buffers of sinusoidal positions, which fairseq up to 0.12.2 saves and every version recomputes.
POSITION_RESIDUE = ("embed_positions._float_tensor", "embed_positions.weights")
STOCK_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)")


@dataclass(frozen=True)
class PlainTransformer:
    """A Transformer with nothing of a tree about it.

    Attributes:
        weights: State dict of fairseq's own ``transformer``.
        options: Its architecture options, flat (``encoder_embed_dim``, ...), all plain values.
        task: Options of the ``translation`` task.
        criterion: Options of the stock criterion it can be validated with.
        updates: Number of updates it was trained for.
        branch: Number of the leaf it was, 0 being the leader.
        origin: What it was made from, in words.
        file: The file it was read from, where it was read from one.
    """

    weights: StateDict
    options: Dict[str, Any]
    task: Dict[str, object]
    criterion: Dict[str, object]
    updates: int
    branch: int
    origin: str
    file: Optional[SourceFile] = None


def plain_transformer(checkpoint: dict, branch: int = 0) -> PlainTransformer:
    """Takes one branch out of a checkpoint.

    Args:
        checkpoint: A fairseq checkpoint of a tree, or of a stock Transformer.
        branch: Leaf number; 0 is the leader and the only branch of a stock Transformer, -2 the
            averaged leader.

    Raises:
        ValueError: There is no such leaf, or the model is nothing that a plain Transformer could
            be; the message lists every reason.
    """
    model = options_of(checkpoint, "model")
    refuse_unsupported(checkpoint, model)
    weights = {
        name: tensor
        for name, tensor in checkpoint["model"].items()
        if not name.endswith(POSITION_RESIDUE)
    }
    drop_fast_path_copies(weights)
    options = _stock_options(model)
    tree = tree_of(model)
    if branch == AVERAGED:
        weights = averaged_weights(weights, "the checkpoint")
    if tree is None and branch != 0:
        raise ValueError(
            f"branch {branch} does not exist: the checkpoint is a plain Transformer with a single "
            f"branch, 0"
        )
    leader = {name: tensor for name, tensor in weights.items() if ".branches." not in name}
    if tree is not None and branch not in (0, AVERAGED):
        leader = _branch_weights(weights, leader, tree, branch, options)
    return PlainTransformer(
        weights=compact(leader),
        options=options,
        task=_translation_task(checkpoint),
        criterion=_stock_criterion(checkpoint),
        updates=_updates(checkpoint),
        branch=branch,
        origin=_origin(tree, branch),
    )


def _origin(tree: Optional[Tree], branch: int) -> str:
    if tree is None:
        return "a plain Transformer"
    names = {0: "the leader", AVERAGED: "the averaged leader"}
    return f"{names.get(branch, f'leaf {branch}')} of tree {tree}"


def tree_of(model: dict) -> Optional[Tree]:
    """The tree that a checkpoint's model options describe, ``None`` for a stock Transformer."""
    if not _is_tree(str(model.get("_name"))):
        return None
    return resolve_tree(flat_namespace(Namespace(**model)))


def refuse_unsupported(checkpoint: dict, model: dict) -> None:
    """Raises one error that lists everything which keeps a model from being a plain Transformer."""
    task = options_of(checkpoint, "task").get("_name")
    name = str(model.get("_name") or model.get("arch"))
    checks = [
        (
            _is_tree(name) or _is_stock(name),
            f"architecture '{name}' is neither a tree_transformer nor a stock transformer",
        ),
        (task == "translation", f"task '{task}' is not 'translation'"),
        ("fsdp_metadata" not in checkpoint, "it is one shard of a fully sharded (FSDP) checkpoint"),
        (not model.get("base_layers"), f"it has {model.get('base_layers')} BASE layers"),
        (
            not model.get("decoder_layers_to_keep") and not model.get("encoder_layers_to_keep"),
            "layers were pruned by --encoder-layers-to-keep or --decoder-layers-to-keep",
        ),
    ]
    reasons = [reason for fine, reason in checks if not fine]
    if reasons:
        raise ValueError("this model cannot be exported: " + "; ".join(reasons))


def _is_tree(name: str) -> bool:
    return ARCH_MODEL_NAME_REGISTRY.get(name, name) == NAME


def _is_stock(name: str) -> bool:
    return ARCH_MODEL_NAME_REGISTRY.get(name) == "transformer"


def _stock_options(model: dict) -> Dict[str, object]:
    """Every option of the stock architecture: the checkpoint's value, else the stock default."""
    names = {field.name for field in fields(FlatTransformerConfig)} - {"_name"}
    options = {name: value for name, value in model.items() if name in names}
    for side in ("decoder_input_dim", "decoder_output_dim"):
        if not str(options.get(side)).isdigit():  # an interpolation that nobody resolved
            options[side] = int(options["decoder_embed_dim"])
    complete = Namespace(**options)
    base_architecture(complete)
    # Both only matter while training, and pre-trained embeddings need not exist any more.
    settled = {
        "checkpoint_activations": False,
        "offload_activations": False,
        "encoder_embed_path": None,
        "decoder_embed_path": None,
    }
    return {name: plain_value(value) for name, value in {**vars(complete), **settled}.items()}


def plain_value(value: object) -> object:
    """A value that safe loading accepts: numbers, strings, ``None`` and lists of them."""
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(getattr(value, "value", value))


def _branch_weights(
    weights: StateDict, leader: StateDict, tree: Tree, branch: int, options: dict
) -> StateDict:
    """The plain state dict of a leaf that is not the leader; adapts ``options`` to it."""
    count = len(tree.leaves)
    if not 0 <= branch < count:
        raise ValueError(
            f"branch {branch} does not exist: tree {tree} has the leaves 0 to {count - 1}, "
            f"0 being the leader"
        )
    sides = {"decoder": tree.decoder, **({"encoder": tree.encoder} if tree.spans_encoder else {})}
    plain = {name: tensor for name, tensor in leader.items() if _side(name) not in sides}
    for side, layers in sides.items():
        plain.update(_path_layers(weights, layers, branch, side))
        options[f"{side}_layers"] = layers.paths[branch][-1].stop
    plain.update(_encoder_parts(weights, tree, branch))
    _take_norm(plain, weights, branch)
    _take_projection(plain, weights, branch, options)
    return plain


def _side(name: str) -> str:
    """``encoder`` or ``decoder`` for the name of a stock layer's parameter, else ''."""
    stock = STOCK_LAYER.match(name)
    return stock[1] if stock else ""


def _path_layers(weights: StateDict, tree: Tree, branch: int, side: str) -> StateDict:
    """The layers on a leaf's path under ``{side}.layers.{depth}``.

    Args:
        weights: Everything that the checkpoint has.
        tree: The tree of the side's layers.
        branch: The leaf.
        side: ``encoder`` or ``decoder``.
    """
    path = {node.index: node for node in tree.paths[branch]}
    shared = {node.index for node in tree.leader}
    kept_depth = max((path[index].stop for index in shared & set(path)), default=0)
    layers: Dict[str, Tensor] = {}
    for name, tensor in weights.items():
        stock, own = STOCK_LAYER.match(name), NODE_LAYER.match(name)
        if stock and stock[1] == side and int(stock[2]) < kept_depth:
            layers[name] = tensor
        elif own and name.startswith(side) and int(own[1] or own[2]) in path:
            depth = path[int(own[1] or own[2])].start + int(own[3])
            layers[f"{side}.layers.{depth}.{own[4]}"] = tensor
    return layers


def _encoder_parts(weights: StateDict, tree: Tree, branch: int) -> StateDict:
    """What the encoder nodes on a leaf's path have beside layers: positions and norms."""
    prefixes = [f"encoder.branches.{node.index}." for node in tree.paths[branch]]
    return {
        f"encoder.{name.removeprefix(prefix)}": tensor
        for prefix in prefixes
        for name, tensor in weights.items()
        if name.startswith(prefix) and not NODE_LAYER.match(name)
    }


def _take_norm(plain: StateDict, weights: StateDict, branch: int) -> None:
    """Replaces the leader's final norm by the leaf's, where the stock decoder has one."""
    for part in ("weight", "bias"):
        if f"decoder.layer_norm.{part}" in plain:
            plain[f"decoder.layer_norm.{part}"] = _entry(
                weights, f"decoder.branches.layer_norms.{branch}.{part}"
            )


def _take_projection(plain: StateDict, weights: StateDict, branch: int, options: dict) -> None:
    """Gives the leaf its own projection, if it has one; then nothing is tied to it any more."""
    own = weights.get(f"decoder.branches.output_projections.{branch}.weight")
    if own is None:
        return
    if options.get("merge_src_tgt_embed"):
        raise ValueError(
            f"branch {branch} has an output projection of its own, but --merge-src-tgt-embed ties "
            f"the projection to the embeddings in every stock model; export the leader (branch 0)"
        )
    plain["decoder.output_projection.weight"] = own
    options["share_decoder_input_output_embed"] = False
    options["share_all_embeddings"] = False


def _entry(weights: StateDict, name: str) -> Tensor:
    if name not in weights:
        raise ValueError(f"the checkpoint is incomplete: '{name}' is missing")
    return weights[name]


def _translation_task(checkpoint: dict) -> Dict[str, object]:
    """The options of the stock task, without the ones that other tasks or plugins added."""
    known = {field.name for field in fields(TranslationConfig)} | {"_name"}
    task = options_of(checkpoint, "task")
    return {name: plain_value(value) for name, value in task.items() if name in known}


def _stock_criterion(checkpoint: dict) -> Dict[str, object]:
    """The stock loss under which `fairseq-validate` can look at the exported model."""
    criterion = options_of(checkpoint, "criterion")
    return {
        "_name": "label_smoothed_cross_entropy",
        "label_smoothing": float(criterion.get("label_smoothing") or 0.0),
        "report_accuracy": False,
        "ignore_prefix_size": 0,
        "sentence_avg": bool(criterion.get("sentence_avg")),
    }


def _updates(checkpoint: dict) -> int:
    history = checkpoint.get("optimizer_history") or [{}]
    return int(history[-1].get("num_updates", 0))
