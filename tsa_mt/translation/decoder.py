"""A Transformer decoder whose layers form a tree.

The leader is the unmodified stock decoder under stock parameter names. The other nodes hang under
``branches`` and read the hidden state that the leader's (or another node's) layers left at the
depth where they start, so that every shared node runs exactly once per step.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.modules import LayerNorm
from torch import Tensor, nn

from tsa_mt.branches import BranchOutputs, Projection, leaf_projections, scale_gradient
from tsa_mt.objectives.base import Objective
from tsa_mt.teacher import TeacherPass
from tsa_mt.translation.encoder import encoding_of
from tsa_mt.tree import Node, Tree

NO_ALIGNMENT = -1
"""An ``alignment_layer`` that no layer has: attention weights are not collected."""


class TreeDecoder(TransformerDecoderBase):
    """Stock decoder (the leader) plus the other branches of a tree.

    Args:
        cfg: fairseq's ``TransformerConfig``.
        dictionary: Target dictionary.
        embed_tokens: Target embedding.
        tree: Tree of decoder layers, or over the whole network, whose leader path has
            ``cfg.decoder.layers`` of them.
        objective: Builds the owner of the trainable fusion parts, which is kept under ``branches``;
            called last, so that the leader's initial weights are those of the plain network.
        separate_projections: Whether every leaf but the leader gets its own output projection.
        decode_branch: Which leaf `forward` decodes with; 0 is the leader, -1 the ensemble.
        no_encoder_attn: As in fairseq.
    """

    branches: Any  # what the stock decoder has not: nodes, norms, projections, the objective

    def __init__(
        self,
        cfg,
        dictionary,
        embed_tokens,
        tree: Tree,
        objective: Callable[[], Objective],
        separate_projections: bool = False,
        decode_branch: int = 0,
        no_encoder_attn: bool = False,
    ):
        super().__init__(cfg, dictionary, embed_tokens, no_encoder_attn=no_encoder_attn)
        self.network = tree
        self.tree = tree.decoder
        self.encoder_ends = {
            node.index: end.index for node in tree.nodes if (end := tree.encoder_end(node))
        }
        self.decode_branch = decode_branch
        self.branches = nn.Module()
        self.branches.nodes = nn.ModuleDict(
            {
                str(node.index): nn.ModuleList(
                    self.build_decoder_layer(cfg, no_encoder_attn) for _ in range(node.layers)
                )
                for node in self._own_nodes()
            }
        )
        followers = range(1, len(tree.leaves))
        self.branches.layer_norms = nn.ModuleDict(
            {str(k): LayerNorm(cfg.decoder.embed_dim, export=cfg.export) for k in followers}
            if self.layer_norm is not None
            else {}
        )
        self.branches.output_projections = nn.ModuleDict(
            {str(k): self._new_projection(len(dictionary)) for k in followers}
            if separate_projections
            else {}
        )
        self.branches.objective = objective()
        if self.branches.objective.rescales_shared:
            self._rescale_forks()

    def _own_nodes(self) -> List[Node]:
        """The nodes that are not on the leader's path."""
        leader = {node.index for node in self.tree.leader}
        return [node for node in self.tree.nodes if node.index not in leader]

    def _rescale_forks(self) -> None:
        """Divides what flows back through a fork by its number of branches.

        That holds for the hidden state at the fork, and for what the layers above it send into an
        encoder that they share.
        """
        at_fork, to_encoder = self.tree.fork_shares(), {0: 1.0}
        for node in self.tree.nodes:
            for child in node.children:
                ends = self.network.nodes[child].cut is not None
                to_encoder[child] = 1.0 if ends else to_encoder[node.index] / len(node.children)
            for number, layer in enumerate(self._layers_of(node)):
                factor = 1.0 if number else at_fork[node.index]
                layer.register_forward_pre_hook(_gradient_scaler(factor, to_encoder[node.index]))

    def _layers_of(self, node: Node) -> List[nn.Module]:
        if str(node.index) in self.branches.nodes:
            return list(self.branches.nodes[str(node.index)])
        return list(self.layers[node.start : node.stop])

    def _new_projection(self, classes: int) -> nn.Linear:
        projection = nn.Linear(self.output_embed_dim, classes, bias=False)
        nn.init.normal_(projection.weight, mean=0, std=self.output_embed_dim**-0.5)
        return projection

    @property
    def projections(self) -> List[Projection]:
        """The output projection of every leaf; shared ones are the same object."""
        own = self.branches.output_projections.items()
        return leaf_projections(
            Projection(self.output_projection.weight),
            {leaf: Projection(projection.weight) for leaf, projection in own},
            len(self.tree.leaves),
            self.branches.objective.rescales_shared,
        )

    def forward(
        self,
        prev_output_tokens,
        encoder_out: Optional[Dict[str, List[Tensor]]] = None,
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
        features_only: bool = False,
        full_context_alignment: bool = False,
        alignment_layer: Optional[int] = None,
        alignment_heads: Optional[int] = None,
        src_lengths: Optional[Any] = None,
        return_all_hiddens: bool = False,
    ):
        """As fairseq's decoder, for the leaf (or ensemble) that ``decode_branch`` names.

        Returns:
            ``(batch, length, vocabulary)`` logits (features with ``features_only``) and the extra
            dict. For the ensemble the logits are the log of the leaves' mean probability.

        Raises:
            ValueError: Features are asked of the ensemble, which has none of its own.
        """
        if features_only and self.decode_branch < 0:
            raise ValueError(
                "features_only was asked of the ensemble (decode_branch -1), which mixes "
                "probabilities and has no features; set decode_branch to a leaf, 0 is the leader"
            )
        features, extra = self.extract_features(
            prev_output_tokens,
            encoder_out,
            incremental_state,
            full_context_alignment,
            alignment_layer,
            alignment_heads,
        )
        if self.decode_branch == 0:
            return (features if features_only else self.output_layer(features)), extra
        ensemble = self.decode_branch < 0
        leaves = self._leaf_features(
            range(len(self.tree.leaves)) if ensemble else [self.decode_branch],
            features,
            extra,
            prev_output_tokens,
            encoder_out,
            incremental_state,
            full_context_alignment,
        )
        if ensemble:
            return self._mean_log_probs(leaves), extra
        if features_only:
            return leaves[0], extra
        return self.branch_output_layer(leaves[0], self.decode_branch), extra

    def branch_outputs(
        self, prev_output_tokens, encoder_out: Optional[Dict[str, List[Tensor]]] = None
    ) -> BranchOutputs:
        """Runs every node of the tree once.

        Args:
            prev_output_tokens: ``(batch, length)`` shifted target.
            encoder_out: What the encoder returned.

        Returns:
            ``(batch, length, dim)`` features of every leaf, the leader first, and the trunk's
            hidden state: what the root's layers (without any, the embedding) make of the target.
        """
        features, extra = self.extract_features(
            prev_output_tokens, encoder_out, alignment_layer=NO_ALIGNMENT
        )
        every = range(len(self.tree.leaves))
        leaves = self._leaf_features(every, features, extra, prev_output_tokens, encoder_out)
        trunk = extra["inner_states"][self.tree.nodes[0].stop]
        return BranchOutputs(leaves, trunk=trunk.transpose(0, 1))  # -> batch x length x dim

    def bridge_features(self, prev_output_tokens: Tensor, teacher: TeacherPass) -> Tensor:
        """Runs the bridge over the teacher's lower features.

        Args:
            prev_output_tokens: ``(batch, length)`` shifted target.
            teacher: What the teacher computed for this batch.

        Returns:
            ``(batch, length, dim)`` of the teacher's width.
        """
        run = self._layer_runner(prev_output_tokens, teacher.encoded, None, False)
        return self.branches.bridge(teacher.hidden, run)

    def drop_branches(self) -> None:
        """Frees everything but the leader; only decoding with the leader is possible afterwards."""
        self.branches = nn.Module()

    def branch_output_layer(self, features: Tensor, leaf: int) -> Tensor:
        """Logits of one leaf's features, ``(..., vocabulary)``."""
        return nn.functional.linear(features, self.projections[leaf].weight)

    def _mean_log_probs(self, leaves: List[Tensor]) -> Tensor:
        """Log of the mean probability: what fairseq's ensemble of files computes."""
        log_probs = torch.stack(
            [
                torch.log_softmax(self.branch_output_layer(leaf, k), -1, dtype=torch.float32)
                for k, leaf in enumerate(leaves)
            ]
        )
        return log_probs.logsumexp(0) - torch.log(log_probs.new_tensor(len(leaves)))

    def _leaf_features(
        self,
        wanted: Sequence[int],
        leader: Tensor,
        extra: Dict[str, List[Tensor]],
        prev_output_tokens: Tensor,
        encoder_out: Optional[Dict[str, List[Tensor]]],
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
        full_context_alignment: bool = False,
    ) -> List[Tensor]:
        """Final features of the wanted leaves, given the leader's and its hidden states."""
        run = self._layer_runner(
            prev_output_tokens, encoder_out, incremental_state, full_context_alignment
        )
        hidden = self._node_states(wanted, extra["inner_states"], run)
        ends = [leaf.index for leaf in self.tree.leaves]
        return [self._finish(hidden[ends[k]], k) if k else leader for k in wanted]

    def _node_states(
        self, wanted: Sequence[int], leader_states: List[Tensor], run
    ) -> Dict[int, Tensor]:
        """The hidden state ``(length, batch, dim)`` after every node above the wanted leaves."""
        states = {node.index: leader_states[node.stop] for node in self.tree.leader}
        above = {node.index for leaf in wanted for node in self.tree.paths[leaf]}
        for node in self._own_nodes():
            if node.index not in above:
                continue
            assert node.parent is not None  # a root is the leader's
            state = states[node.parent]
            for layer in self.branches.nodes[str(node.index)]:
                state = run(layer, state, self.encoder_ends.get(node.index))
            states[node.index] = state
        return states

    def _layer_runner(
        self, prev_output_tokens, encoder_out, incremental_state, full_context_alignment
    ):
        """A function that runs one layer with the masks that the stock decoder would give it."""
        if incremental_state is not None:
            prev_output_tokens = prev_output_tokens[:, -1:]
        padding = prev_output_tokens.eq(self.padding_idx)
        padding_mask = padding if self.cross_self_attention or padding.any() else None
        causal = incremental_state is None and not full_context_alignment

        def run(layer: nn.Module, state: Tensor, encoder_end: Optional[int] = None) -> Tensor:
            encoded, encoder_mask = _encoder_states(encoding_of(encoder_out, encoder_end))
            return layer(
                state,
                encoded,
                encoder_mask,
                incremental_state,
                self_attn_mask=self.buffered_future_mask(state) if causal else None,
                self_attn_padding_mask=padding_mask,
            )[0]

        return run

    def _finish(self, state: Tensor, leaf: int) -> Tensor:
        """Final norm and output dimension of a leaf, ``(batch, length, dim)``."""
        if self.layer_norm is not None:
            state = self.branches.layer_norms[str(leaf)](state)
        state = state.transpose(0, 1)  # length x batch x dim -> batch x length x dim
        return state if self.project_out_dim is None else self.project_out_dim(state)


def _gradient_scaler(state_factor: float, encoder_factor: float) -> Callable:
    """A hook that scales the gradients of a decoder layer's two inputs."""

    def hook(layer: nn.Module, inputs: Tuple[Any, ...]) -> Tuple[Any, ...]:
        state, encoded, *rest = inputs
        if encoded is not None:
            encoded = scale_gradient(encoded, encoder_factor)
        return (scale_gradient(state, state_factor), encoded, *rest)

    return hook


def _encoder_states(encoder_out):
    """Encoder output and padding mask, ``None`` where there is none."""
    if encoder_out is None:
        return None, None
    states = encoder_out["encoder_out"]
    mask = encoder_out["encoder_padding_mask"]
    return (states[0] if len(states) else None), (mask[0] if len(mask) else None)
