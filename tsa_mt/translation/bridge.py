"""The knowledge bridge: trainable layers that continue a frozen teacher's lower decoder layers.

It belongs to the student's ``decoder.branches`` and has the shape of the teacher's top layers, so
it can only be built where the teacher's checkpoint is at hand. Without it a student still loads
and decodes: the bridge's entries are dropped, only training asks for the teacher.
"""

from typing import Callable, List, Optional

from fairseq.models.transformer import TransformerDecoderBase
from fairseq.modules import LayerNorm
from torch import Tensor, nn

from tsa_mt.objectives.sokd import SOKD
from tsa_mt.teacher import Teacher


class Bridge(nn.Module):
    """Top layers of a decoder, with its final norm where it has one.

    Args:
        layers: Decoder layers.
        layer_norm: Final norm, or ``None``.
    """

    def __init__(self, layers: List[nn.Module], layer_norm: Optional[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.layer_norm = layer_norm

    def forward(self, hidden: List[Tensor], run: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
        """Continues the teacher from the depth where the bridge starts.

        Args:
            hidden: The teacher's ``(length, batch, dim)`` states before and after every layer.
            run: Runs one layer with the right masks.

        Returns:
            ``(batch, length, dim)`` features.
        """
        state = hidden[-1 - len(self.layers)]
        for layer in self.layers:
            state = run(layer, state)
        if self.layer_norm is not None:
            state = self.layer_norm(state)
        return state.transpose(0, 1)  # length x batch x dim -> batch x length x dim


def build_bridge(teacher: Teacher, objective: SOKD) -> Bridge:
    """Builds fresh layers of the teacher's shape; copies the teacher's weights if asked to.

    Raises:
        ValueError: The teacher's decoder is no Transformer, has fewer layers, or ends in more than
            a norm.
    """
    decoder = teacher.model.decoder
    if not isinstance(decoder, TransformerDecoderBase) or decoder.project_out_dim is not None:
        raise ValueError(
            f"teacher {teacher.path} cannot carry a bridge: its decoder is a "
            f"{type(decoder).__name__} of another structure than a Transformer's, or has "
            f"--decoder-output-dim; use a plain Transformer"
        )
    depth = len(decoder.layers)
    count = objective.bridge_layers or (depth + 1) // 2
    if count > depth:
        raise ValueError(
            f"--kd-bridge-layers is {count}, but teacher {teacher.path} has {depth} decoder layers"
        )
    norm = decoder.layer_norm
    bridge = Bridge(
        [decoder.build_decoder_layer(decoder.cfg) for _ in range(count)],
        None if norm is None else LayerNorm(norm.normalized_shape),
    )
    if objective.bridge_init == "teacher":
        for offset, layer in enumerate(bridge.layers):
            layer.load_state_dict(decoder.layers[depth - count + offset].state_dict())
        if bridge.layer_norm is not None:
            bridge.layer_norm.load_state_dict(norm.state_dict())
    return bridge
