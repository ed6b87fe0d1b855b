"""Loading a plain Transformer's checkpoint into a tree.

A plain checkpoint has everything the leader needs and nothing under ``branches``. The missing
entries are filled in before fairseq's strict load: with the freshly drawn values the model already
holds, or with copies of the leader's layers at the same depth.
"""

from typing import Dict

from torch import Tensor, nn

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


def add_missing_branches(state_dict: Dict[str, Tensor], model: nn.Module) -> None:
    """Completes a plain checkpoint's state dict in place; leaves a tree's checkpoint alone.

    Args:
        state_dict: What is about to be loaded.
        model: The tree model that will load it; its ``branch_init`` says how branches start.
    """
    drop_fast_path_copies(state_dict)
    if any(BRANCHES in key for key in state_dict):
        return
    own = {key: value for key, value in model.state_dict().items() if BRANCHES in key}
    state_dict.update(own)
    if getattr(model, "branch_init", "fresh") == "copy":
        for key in own:
            source = leader_key(key, model.decoder.tree)
            if source in state_dict:
                state_dict[key] = state_dict[source].clone()


def drop_fast_path_copies(state_dict: Dict[str, Tensor]) -> None:
    """Removes the duplicate encoder parameters of fairseq 0.12.2, in place."""
    for key in list(state_dict):
        parts = key.split(".")
        if key.startswith("encoder.layers.") and len(parts) == 4 and parts[3] in ENCODER_FAST_PATH:
            del state_dict[key]


def leader_key(key: str, tree) -> str:
    """The leader's parameter at the same depth as a branch's; '' when it has none.

    Layers beyond the leader's depth (a ladder's longer branches) repeat the leader's last layer.
    """
    prefix, _, rest = key.partition(BRANCHES)
    if prefix == "encoder":
        return f"encoder.{rest.partition('.')[2]}"
    kind, _, rest = rest.partition(".")
    if kind == "nodes":
        node, layer, name = rest.split(".", 2)
        depth = min(tree.nodes[int(node)].start + int(layer), tree.depth - 1)
        return f"{prefix}.layers.{depth}.{name}"
    _, _, name = rest.partition(".")
    return {
        "layer_norms": f"{prefix}.layer_norm.{name}",
        "output_projections": f"{prefix}.output_projection.{name}",
    }.get(kind, "")
