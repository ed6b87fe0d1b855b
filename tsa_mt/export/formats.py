"""The formats that a translation model can be written in, one row each."""

from typing import Callable, Dict, NamedTuple, Tuple

from tsa_mt.export import ctranslate2, fairseq, huggingface, safetensors, torchscript
from tsa_mt.export.companions import Companions
from tsa_mt.export.readme import Usage


class TextFormat(NamedTuple):
    """A way to write a Transformer.

    Attributes:
        file: Name of the model's file, by which a folder of this format is recognised.
        fill: Writes everything but README and certificate into a folder, given the model, the files
            that belong to it and the folder, and by keyword a ``quantization`` if there is one.
        usage: How such a folder is used, for its README.
        quantizations: Types that weights can be stored in; empty if there is no choice.
    """

    file: str
    fill: Callable[..., None]
    usage: Callable[[Companions], Usage]
    quantizations: Tuple[str, ...] = ()


FORMATS: Dict[str, TextFormat] = {
    "fairseq": TextFormat(fairseq.MODEL, fairseq.fill, fairseq.usage),
    "ctranslate2": TextFormat(
        ctranslate2.MODEL, ctranslate2.fill, ctranslate2.usage, ctranslate2.QUANTIZATIONS
    ),
    "safetensors": TextFormat(safetensors.MODEL, safetensors.fill, safetensors.usage),
    "torchscript": TextFormat(torchscript.MODEL, torchscript.fill, torchscript.usage),
    "huggingface": TextFormat(huggingface.MODEL, huggingface.fill, huggingface.usage),
}
