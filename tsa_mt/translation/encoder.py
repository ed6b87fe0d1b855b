"""A Transformer encoder with whole encoders of its own for the peers of a tree.

The leader's encoder is the stock one under stock names. Every other child of the tree's root has
another encoder under ``branches``, named after the child's node; all share the embeddings. Peers'
encoders run in training and where a peer decodes.
"""

from typing import Dict, List, Optional

import torch
from fairseq.models.transformer import TransformerEncoderBase
from torch import Tensor, nn

from tsa_mt.tree import Tree


class PeerEncoder(TransformerEncoderBase):
    """A peer's encoder; no checkpoint of an older fairseq has one that would need upgrading."""

    def upgrade_state_dict_named(self, state_dict: Dict[str, Tensor], name: str):
        """Leaves a checkpoint alone: the stock upgrade takes missing entries for an old version."""
        return state_dict


class TreeEncoder(TransformerEncoderBase):
    """Stock encoder (the leader's) plus one for every other child of the root.

    Args:
        cfg: fairseq's ``TransformerConfig``.
        dictionary: Source dictionary.
        embed_tokens: Source embedding, shared by all encoders.
        tree: Tree of decoder layers whose root has no layers.
        always: Whether `forward` runs the peers' encoders unasked, because a peer decodes.
        return_fc: As in fairseq.
    """

    def __init__(
        self, cfg, dictionary, embed_tokens, tree: Tree, always: bool = False, return_fc=False
    ):
        super().__init__(cfg, dictionary, embed_tokens, return_fc)
        self.always = always
        with torch.random.fork_rng(devices=[]):  # the decoder comes next and must not notice
            torch.default_generator.manual_seed(torch.initial_seed() + 1)
            self.branches = nn.ModuleDict(
                {
                    str(child): PeerEncoder(cfg, dictionary, embed_tokens, return_fc)
                    for child in tree.nodes[0].children[1:]
                }
            )

    def forward(
        self,
        src_tokens,
        src_lengths: Optional[Tensor] = None,
        return_all_hiddens: bool = False,
        token_embeddings: Optional[Tensor] = None,
        branches: bool = False,
    ):
        """As fairseq's encoder; with ``branches`` the outputs of the peers' encoders too.

        Returns:
            fairseq's dict of lists; a peer's entries have its node's number as prefix: ``2:``.
        """
        arguments = (src_tokens, src_lengths, return_all_hiddens, token_embeddings)
        encoded = super().forward(*arguments)
        if branches or self.always:
            for node, encoder in self.branches.items():
                peer = encoder(*arguments)
                encoded.update({f"{node}:{key}": value for key, value in peer.items()})
        return encoded

    def reorder_encoder_out(self, encoder_out: Dict[str, List[Tensor]], new_order):
        """As fairseq's encoder, for all encoders that ran."""
        reordered = super().reorder_encoder_out(encoder_out, new_order)
        for node in self.branches:
            peer = peer_encoding(encoder_out, node)
            if peer is not encoder_out:
                peer = super().reorder_encoder_out(peer, new_order)
                reordered.update({f"{node}:{key}": value for key, value in peer.items()})
        return reordered


def peer_encoding(
    encoder_out: Optional[Dict[str, List[Tensor]]], node: str
) -> Optional[Dict[str, List[Tensor]]]:
    """What the encoder of that child of the root returned; the shared one's where it has none."""
    if encoder_out is None or f"{node}:encoder_out" not in encoder_out:
        return encoder_out
    prefix = f"{node}:"
    return {
        key.removeprefix(prefix): value
        for key, value in encoder_out.items()
        if key.startswith(prefix)
    }
