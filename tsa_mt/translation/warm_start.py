"""Loading a plain Transformer's checkpoint into a tree.

A plain checkpoint has everything the leader needs and nothing under ``branches``. The missing
entries are filled in before fairseq's strict load: with the freshly drawn values the model already
holds, or with copies of the leader's layers at the same depth.
"""

from typing import Any, Dict, Set

from torch import Tensor

from tsa_mt.tree import Tree

BRANCHES = ".branches."

ENCODER_FAST_PATH = (
    "in_proj_weight",
    "in_proj_bias",
    "out_proj_weight",
    "out_proj_bias",
    "fc1_weight",
    "fc1_bias",
    "fc2_weight",
    "fc2_bias",
)
"""Copies of encoder parameters that fairseq 0.12.2 saves in addition to the real ones."""


def add_missing_branches(state_dict: Dict[str, Tensor], model: Any) -> None:
    """Completes a plain checkpoint's state dict in place; leaves a tree's checkpoint alone.

    Args:
        state_dict: What is about to be loaded.
        model: The tree model that will load it; its ``branch_init`` says how branches start.

    Raises:
        ValueError: The checkpoint is of another tree or objective.
    """
    drop_fast_path_copies(state_dict)
    own = {key: value for key, value in model.state_dict().items() if BRANCHES in key}
    given = {key for key in state_dict if BRANCHES in key}
    if given:
        _check_same_branches(given, set(own), model)
        return
    state_dict.update(own)
    if getattr(model, "branch_init", "fresh") == "copy":
        for key in own:
            source = leader_key(key, model.tree)
            if source in state_dict:
                state_dict[key] = state_dict[source].clone()


def _check_same_branches(given: Set[str], own: Set[str], model: Any) -> None:
    """Explains what fairseq's strict load would only list key by key."""
    if given == own:
        return
    missing, extra = sorted(own - given), sorted(given - own)
    found = [f"it has no {missing[0]}"] if missing else []
    found += [f"it has {extra[0]}, which the model has not"] if extra else []
    count = len(missing) + len(extra)
    raise ValueError(
        f"the checkpoint's branches are not those of tree '{model.tree}' with objective "
        f"{model.objective.name!r}: {' and '.join(found)} (of {count} such differences); to go "
        f"on from its leader alone, export that with `tsa-mt export --to fairseq` and give the "
        f"result to --finetune-from-model"
    )


def drop_fast_path_copies(state_dict: Dict[str, Tensor]) -> None:
    """Removes the duplicate encoder parameters of fairseq 0.12.2, in place."""
    for key in list(state_dict):
        parts = key.split(".")
        if key.startswith("encoder.layers.") and len(parts) == 4 and parts[3] in ENCODER_FAST_PATH:
            del state_dict[key]


def leader_key(key: str, tree: Tree) -> str:
    """The leader's parameter at the same depth as a branch's; '' when it has none.

    Layers beyond the leader's depth (a ladder's longer branches) repeat the leader's last layer.

    Args:
        key: Name of a parameter under ``branches``.
        tree: The model's tree.
    """
    prefix, _, rest = key.partition(BRANCHES)
    if prefix == "encoder":
        node, _, rest = rest.partition(".")
        if not rest.startswith("layers."):
            return f"encoder.{rest}"
        return _layer_key("encoder", tree.encoder, node, rest.removeprefix("layers."))
    kind, _, rest = rest.partition(".")
    number, _, name = rest.partition(".")
    if kind == "nodes":
        return _layer_key(prefix, tree.decoder, number, name)
    return {
        "layer_norms": f"{prefix}.layer_norm.{name}",
        "output_projections": f"{prefix}.output_projection.{name}",
    }.get(kind, "")


def _layer_key(side: str, tree: Tree, node: str, rest: str) -> str:
    layer, _, name = rest.partition(".")
    depth = min(tree.nodes[int(node)].start + int(layer), tree.depth - 1)
    return f"{side}.layers.{depth}.{name}"
