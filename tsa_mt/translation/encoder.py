"""A Transformer encoder whose layers form a tree.

The leader's encoder is the stock one under stock names. The tree's other encoder nodes hang under
``branches``, named after their nodes, and read the hidden state that the leader's (or another
node's) layers left at the depth where they start, so that every shared node runs exactly once. A
node that starts at the source has positions and an embedding norm of its own; the token embedding
is shared by all. Branches run in training and where a leaf below them decodes.
"""

from copy import copy
from typing import Any, Dict, Iterable, List, Optional, Tuple

import torch
from fairseq.models.transformer import TransformerEncoderBase
from torch import Tensor, nn

from tsa_mt.branches import scale_gradient
from tsa_mt.tree import Node, Tree

Encoded = Dict[str, List[Tensor]]
"""What fairseq's encoders return."""


class NodeEncoder(TransformerEncoderBase):
    """The encoder layers of one node that is not on the leader's path.

    Args:
        cfg: fairseq's ``TransformerConfig``.
        dictionary: Source dictionary.
        embed_tokens: Source embedding.
        node: The node, counting encoder layers.
        ends: Whether an encoder ends here, which then has the final norm.
        return_fc: As in fairseq.
    """

    def __init__(self, cfg, dictionary, embed_tokens, node: Node, ends: bool, return_fc=False):
        super().__init__(_with_layers(cfg, node.layers), dictionary, embed_tokens, return_fc)
        self.starts_at_source = node.start == 0 and node.layers > 0
        if not self.starts_at_source:
            self.embed_tokens = self.embed_positions = self.layernorm_embedding = None
        if not ends:
            self.layer_norm = None

    def forward_embedding(self, src_tokens, token_embedding: Optional[Tensor] = None):
        """The embedded source, or the state ``(batch, length, dim)`` that the parent left."""
        if self.starts_at_source:
            return super().forward_embedding(src_tokens)
        return token_embedding, token_embedding

    def upgrade_state_dict_named(self, state_dict: Dict[str, Tensor], name: str):
        """Leaves a checkpoint alone: the stock upgrade takes missing entries for an old version."""
        return state_dict


class TreeEncoder(TransformerEncoderBase):
    """Stock encoder (the leader's) plus the other encoder nodes of a tree.

    Args:
        cfg: fairseq's ``TransformerConfig``.
        dictionary: Source dictionary.
        embed_tokens: Source embedding, shared by all encoders.
        tree: Tree over the whole network.
        decode_branch: The leaf that `forward` runs for unless asked for all; -1 are all.
        return_fc: As in fairseq.
    """

    branches: Any  # the other nodes, by number

    def __init__(
        self, cfg, dictionary, embed_tokens, tree: Tree, decode_branch: int = 0, return_fc=False
    ):
        super().__init__(cfg, dictionary, embed_tokens, return_fc)
        self.tree = tree.encoder
        self.ends = {node.index for node in tree.encoder_ends}
        self.decode_branch = decode_branch
        own = own_encoder_nodes(tree)
        self.forks = [node for node in self.tree.leader if set(node.children) & set(own)]
        with torch.random.fork_rng(devices=[]):  # the decoder comes next and must not notice
            torch.default_generator.manual_seed(torch.initial_seed() + 1)
            self.branches = nn.ModuleDict(
                {
                    str(node): NodeEncoder(
                        cfg,
                        dictionary,
                        embed_tokens,
                        self.tree.nodes[node],
                        node in self.ends,
                        return_fc,
                    )
                    for node in own
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
        """As fairseq's encoder; with ``branches`` the outputs of all encoders.

        Returns:
            fairseq's dict of lists for the leader's encoder; the entries of another encoder have
            the number of the node it ends in as prefix: ``2:``.
        """
        encoded = super().forward(src_tokens, src_lengths, True, token_embeddings)
        states = {node.index: encoded["encoder_states"][node.stop] for node in self.forks}
        encoded = _kept(encoded, return_all_hiddens)
        for node, branch in self._running(branches):
            assert node.parent is not None  # it branches off
            start = states[node.parent].transpose(0, 1)  # -> batch x length x dim
            output = branch(src_tokens, src_lengths, True, start)
            states[node.index] = output["encoder_states"][-1]
            if node.index in self.ends:
                output = _kept(output, return_all_hiddens)
                encoded.update({f"{node.index}:{key}": value for key, value in output.items()})
        return encoded

    def _running(self, every: bool) -> Iterable[Tuple[Node, NodeEncoder]]:
        """The branches to run, parents first."""
        wanted = self.tree.nodes
        if not every and self.decode_branch >= 0:
            wanted = self.tree.paths[self.decode_branch]
        for node in wanted:
            if str(node.index) in self.branches:
                yield node, self.branches[str(node.index)]

    def rescale_forks(self) -> None:
        """Divides what flows back through a fork by its number of branches."""
        shares = self.tree.fork_shares()
        for node in self.tree.nodes:
            own = str(node.index) in self.branches
            layers = self.branches[str(node.index)].layers if own else self.layers[node.start :]
            if node.start and node.layers:
                layers[0].register_forward_pre_hook(_gradient_scaler(shares[node.index]))

    def reorder_encoder_out(self, encoder_out: Encoded, new_order):
        """As fairseq's encoder, for all encoders that ran."""
        reordered = super().reorder_encoder_out(encoder_out, new_order)
        for node in self.ends:
            output = encoding_of(encoder_out, node)
            if output is not encoder_out:
                output = super().reorder_encoder_out(output, new_order)
                reordered.update({f"{node}:{key}": value for key, value in output.items()})
        return reordered


def own_encoder_nodes(tree: Tree) -> List[int]:
    """The nodes above or at a ``/`` that are not on the leader's path; none in a tree without."""
    leader = {node.index for node in tree.leader}
    return [
        node.index
        for node in tree.nodes
        if tree.spans_encoder
        and node.index not in leader
        and tree.encoder_end(node) in (None, node)
    ]


def encoding_of(encoder_out: Optional[Encoded], end: Optional[int]) -> Optional[Encoded]:
    """The output of the encoder that ends in that node; the leader's where it has none."""
    prefix = f"{end}:"
    if encoder_out is None or f"{prefix}encoder_out" not in encoder_out:
        return encoder_out
    return {
        key.removeprefix(prefix): value
        for key, value in encoder_out.items()
        if key.startswith(prefix)
    }


def _with_layers(cfg, layers: int):
    """The config of an encoder with another number of layers."""
    cfg, encoder = copy(cfg), copy(cfg.encoder)
    cfg.encoder, encoder.layers = encoder, layers
    return cfg


def _kept(encoded: Encoded, hidden: bool) -> Encoded:
    """An encoder's output without its inner states, unless these were asked for."""
    return encoded if hidden else {**encoded, "encoder_states": [], "fc_results": []}


def _gradient_scaler(factor: float):
    def hook(layer: nn.Module, inputs: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:
        state, *rest = inputs
        return (scale_gradient(state, factor), *rest)

    return hook
