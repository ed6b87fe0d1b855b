"""Translation: a Transformer whose decoder is a tree, registered with fairseq."""

from tsa_mt.translation import architectures
from tsa_mt.translation.decoder import TreeDecoder
from tsa_mt.translation.model import TreeTransformer, TreeTransformerConfig

__all__ = ["TreeDecoder", "TreeTransformer", "TreeTransformerConfig", "architectures"]
