"""``--arch tree_transformer``: a stock Transformer encoder and a tree decoder.

``forward`` is the stock one and runs the leader alone, so that beam search, ``--eval-bleu``, EMA,
checkpoint averaging and ``fairseq-generate`` see a plain Transformer. With ``branches=True`` it
runs every node of the tree and returns what the ``online_kd`` criterion needs.
"""

from argparse import Namespace
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional

from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import register_model
from fairseq.models.transformer import TransformerConfig, TransformerModelBase
from torch import Tensor, nn

from tsa_mt.averaged import averaged_weights
from tsa_mt.branches import Projection
from tsa_mt.modeling import LearningTree, bridge_teacher, objective_of
from tsa_mt.options import default_tree
from tsa_mt.sources import AVERAGED, branch_number
from tsa_mt.teacher import TeacherPass
from tsa_mt.translation.bridge import build_bridge
from tsa_mt.translation.config import TreeTransformerConfig, flat_namespace
from tsa_mt.translation.decoder import TreeDecoder
from tsa_mt.translation.encoder import TreeEncoder, own_encoder_nodes
from tsa_mt.translation.warm_start import add_missing_branches
from tsa_mt.tree import Tree

NAME = "tree_transformer"


@register_model(NAME, dataclass=TreeTransformerConfig)
class TreeTransformer(LearningTree, TransformerModelBase):
    """Transformer with a tree decoder; the leader is the stock network under stock names."""

    branches_at = "decoder.branches"

    @classmethod
    def add_args(cls, parser):
        """Adds the flat options; defaults are left to the architecture functions."""
        gen_parser_from_dataclass(parser, TreeTransformerConfig(), delete_default=True)

    @classmethod
    def build_model(cls, cfg, task):
        """Builds the model from a flat config.

        Raises:
            ValueError: Options that a tree decoder cannot honour (all of them are listed), a
                malformed or unfitting tree, objective options out of place, an average to decode
                with that the objective does not keep, or a teacher that a bridge cannot grow out
                of.
        """
        args = flat_namespace(cfg)
        tree = resolve_tree(args)
        branch = branch_number(args.decode_branch)
        args.decode_branch = 0 if branch == AVERAGED else branch
        _refuse_unsupported(args, tree)
        config = TransformerConfig.from_namespace(args)
        model = super().build_model(config, task)
        model.branch_init = args.branch_init
        if model.objective.needs_bridge:
            teacher = bridge_teacher(args.kd_teacher, task)
            bridge = None if teacher is None else build_bridge(teacher, model.objective)
            model.decoder.branches.bridge = bridge
        if model.objective.rescales_shared and isinstance(model.encoder, TreeEncoder):
            model.encoder.rescale_forks()
        model.decodes_average = branch == AVERAGED
        model.keep_average()
        return model

    @classmethod
    def build_encoder(cls, cfg, src_dict, embed_tokens):
        """Builds the stock encoder, or the encoders of a tree that has several."""
        tree = resolve_tree(cfg)
        if not own_encoder_nodes(tree):
            return super().build_encoder(cfg, src_dict, embed_tokens)
        return TreeEncoder(cfg, src_dict, embed_tokens, tree, cfg.decode_branch)

    @classmethod
    def build_decoder(cls, cfg, tgt_dict, embed_tokens):
        """Builds the tree decoder; called by fairseq's ``build_model``."""
        tree = resolve_tree(cfg)
        objective = partial(
            objective_of,
            cfg,
            tree,
            feature_dim=cfg.decoder.output_dim,
            num_classes=len(tgt_dict),
            trunk_dim=cfg.decoder.embed_dim,
        )
        return TreeDecoder(
            cfg,
            tgt_dict,
            embed_tokens,
            tree=tree,
            objective=objective,
            separate_projections=cfg.branch_projection == "separate",
            decode_branch=cfg.decode_branch,
            no_encoder_attn=cfg.no_cross_attention,
        )

    @property
    def tree(self) -> Tree:
        """The tree as its notation has it: of decoder layers, or over the whole network."""
        return self.decoder.network

    @property
    def projections(self) -> List[Projection]:
        """The projection of every feature matrix that ``forward(branches=True)`` returns."""
        return self.decoder.projections + self.objective.projections

    def forward(
        self,
        src_tokens,
        src_lengths,
        prev_output_tokens,
        return_all_hiddens: bool = True,
        features_only: bool = False,
        alignment_layer: Optional[int] = None,
        alignment_heads: Optional[int] = None,
        branches: bool = False,
        teacher: Optional[TeacherPass] = None,
        alter: Optional[Callable[[Tensor, Tensor], Tensor]] = None,
    ):
        """As fairseq's Transformer; with ``branches`` the features of every leaf.

        An objective with a bridge reads what the ``teacher`` computed for the same batch; the
        bridge's features, of the teacher's width, come last. ``alter`` changes the embeddings
        ``(batch, length, dim)`` of the source and of the target before anything reads them; it is
        also given where the end marks are.

        Returns:
            The stock ``(logits, extra)`` of the leader, or with ``branches`` a `BranchOutputs`
            whose features are ``(batch, length, dim)``.
        """
        if not branches:
            return super().forward(
                src_tokens,
                src_lengths,
                prev_output_tokens,
                return_all_hiddens,
                features_only,
                alignment_layer,
                alignment_heads,
            )
        asked = {"branches": True} if isinstance(self.encoder, TreeEncoder) else {}
        embeddings = (self.encoder.embed_tokens, self.decoder.embed_tokens)
        with altered_outputs(embeddings, alter, self.decoder.dictionary.eos()):
            encoded = self.encoder(src_tokens, src_lengths, **asked)
            outputs = self.decoder.branch_outputs(prev_output_tokens, encoded)
        if self.objective.needs_bridge:
            outputs.features.append(self.decoder.bridge_features(prev_output_tokens, teacher))
        return self.objective.fuse(outputs)

    @contextmanager
    def deciding_together(self) -> Iterator[None]:
        """Lets `forward` and beam search use the ensemble of all leaves for a while."""
        branch = self.decoder.decode_branch
        self.decode_with(-1)
        try:
            yield
        finally:
            self.decode_with(branch)

    def decode_with(self, branch: int) -> None:
        """Sets the leaf (or -1, all of them) that `forward` and beam search use."""
        self.decoder.decode_branch = branch
        if isinstance(self.encoder, TreeEncoder):
            self.encoder.decode_branch = branch

    def upgrade_state_dict_named(self, state_dict: Dict[str, Tensor], name: str) -> None:
        """Lets checkpoints of plain Transformers (and of fairseq 0.12.2) load."""
        if self.decodes_average:
            state_dict.update(averaged_weights(state_dict, "the checkpoint"))
        super().upgrade_state_dict_named(state_dict, name)
        self.drop_idle_bridge(state_dict)
        add_missing_branches(state_dict, self)

    def prepare_for_inference_(self, cfg) -> None:
        """Drops what decoding does not need, before fairseq's own preparation."""
        if self.decoder.decode_branch == 0:
            self.decoder.drop_branches()
            if isinstance(self.encoder, TreeEncoder):
                self.encoder.branches.clear()
        super().prepare_for_inference_(cfg)


@contextmanager
def altered_outputs(
    embeddings: Iterable[nn.Module],
    alter: Optional[Callable[[Tensor, Tensor], Tensor]],
    end: int,
) -> Iterator[None]:
    """Embeddings whose outputs are altered for a while; each once, wherever it is used.

    Args:
        embeddings: The modules.
        alter: Gets an output, and where in it the end marks are.
        end: The token that is the end mark.
    """
    hooks = [
        module.register_forward_hook(lambda _, inputs, output: alter(output, inputs[0].eq(end)))
        for module in (set(embeddings) if alter else ())
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def resolve_tree(args: Any) -> Tree:
    """The tree that a model config asks for.

    Args:
        args: Anything with ``tree``, ``kd_objective``, ``encoder_layers`` and ``decoder_layers``.

    Raises:
        ValueError: The notation is malformed, its leader is not as long as the network, or
            ``--peer-encoders`` does not fit it.
    """
    peers = getattr(args, "peer_encoders", False)
    text = getattr(args, "tree", "") or ("peers" if peers else default_tree(args.kd_objective))
    tree = Tree.resolve(text, args.decoder_layers, args.encoder_layers)
    return tree.with_own_encoders(args.encoder_layers) if peers else tree


def _refuse_unsupported(args: Namespace, tree: Tree) -> None:
    """Collects every option that a tree decoder cannot honour and raises once."""
    leaves = len(tree.leaves)
    problems = []
    if args.decoder_layerdrop or args.decoder_layers_to_keep:
        problems.append(
            "--decoder-layerdrop / --decoder-layers-to-keep: dropped layers would move the depths "
            "at which branches start"
        )
    if args.adaptive_softmax_cutoff is not None:
        problems.append("--adaptive-softmax-cutoff: it has no logits that leaves could compare")
    if args.kd_own_augmentation is not None:
        problems.append("--kd-own-augmentation: only images are augmented")
    if args.base_layers:
        problems.append("--base-layers: they are inserted between the layers that the tree counts")
    if getattr(args, "ddp_backend", "") == "fully_sharded":
        problems.append("--ddp-backend fully_sharded: the head needs whole projection weights")
    if args.encoder_layerdrop and any(tree.nodes[node].start for node in own_encoder_nodes(tree)):
        problems.append(
            "--encoder-layerdrop: dropped layers would move the depths at which the encoder forks"
        )
    if args.encoder_layers_to_keep and tree.spans_encoder:
        problems.append(f"--encoder-layers-to-keep: tree '{tree}' needs every encoder layer")
    if not -1 <= args.decode_branch < leaves:
        problems.append(
            f"decode_branch {args.decode_branch}: tree '{tree}' has leaves 0 to {leaves - 1}, and "
            f"-1 is their ensemble (-2: the averaged leader)"
        )
    if problems:
        raise ValueError("tree_transformer cannot be built with " + "; ".join(problems))
