"""A CTranslate2 model, built straight from its model specification.

CTranslate2's own fairseq converter needs the options as a pickled object, which safe loading
refuses, and builds the model in PyTorch first. A plain Transformer's weights fit its specification
one to one: each attention's query, key and value matrices are stacked into one, pad is called
``<blank>``, and decoding starts from the end symbol as it does in fairseq.
"""

import shutil
from pathlib import Path
from typing import Any, List, Optional, Tuple

import torch
from fairseq.data import Dictionary
from fairseq.modules import SinusoidalPositionalEmbedding
from torch import Tensor

from tsa_mt.export.checkpoint import StateDict
from tsa_mt.export.companions import Companions
from tsa_mt.export.fairseq import stock_weights
from tsa_mt.export.folder import new_folder, refuse_existing
from tsa_mt.export.leader import PlainTransformer
from tsa_mt.export.readme import Usage, write_readme
from tsa_mt.export.source import read_source
from tsa_mt.files import PathLike

MODEL = "model.bin"
QUANTIZATIONS = (
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "int16",
    "float16",
    "bfloat16",
    "float32",
)
_ACTIVATIONS = {
    "relu": "RELU",
    "gelu": "GELU",
    "gelu_accurate": "GELUTanh",
    "gelu_fast": "GELUTanh",
    "swish": "SWISH",
}


def convert(
    checkpoint: PathLike,
    out: PathLike,
    quantization: Optional[str] = None,
    force: bool = False,
    branch: int = 0,
    data: Optional[PathLike] = None,
) -> Path:
    """Converts a checkpoint, or a folder that `tsa-mt export` wrote, to CTranslate2.

    Args:
        checkpoint: A fairseq checkpoint of a tree or a plain Transformer, or an export's folder.
        out: The folder to write.
        quantization: Type of the stored weights, one of `QUANTIZATIONS`; ``None`` keeps theirs.
        force: Replace an earlier conversion.
        branch: The leaf to convert; 0 is the leader.
        data: Folder with the dictionaries, where it is not the one the checkpoint names.

    Returns:
        ``out``.

    Raises:
        FileNotFoundError: The checkpoint or its dictionaries are missing.
        FileExistsError: ``out`` exists and may not be replaced.
        ValueError: CTranslate2 cannot represent the model (every reason is listed) or is missing.
    """
    refuse_existing(out, MODEL, force)
    plain, companions = read_source(checkpoint, branch, data)
    return write_ctranslate2(plain, companions, out, force, quantization)


def write_ctranslate2(
    plain: PlainTransformer,
    companions: Companions,
    out: PathLike,
    force: bool = False,
    quantization: Optional[str] = None,
) -> Path:
    """Writes the model, its vocabulary, the subword model and a README into a new folder.

    Args:
        plain: The model.
        companions: Its dictionaries and subword model.
        out: The folder to write.
        force: Replace an earlier conversion.
        quantization: Type of the stored weights; ``None`` keeps theirs.

    Raises:
        FileExistsError: ``out`` exists and may not be replaced.
        ValueError: CTranslate2 cannot represent the model, or is not installed.
    """
    with new_folder(out, MODEL, force) as folder:
        fill(plain, companions, folder, quantization)
        write_readme(folder, plain, companions, usage(companions), quantization)
    return Path(out)


def fill(
    plain: PlainTransformer,
    companions: Companions,
    folder: Path,
    quantization: Optional[str] = None,
) -> None:
    """Writes everything but the README into a folder.

    Raises:
        ValueError: CTranslate2 cannot represent the model, or is not installed.
    """
    refuse_unsupported(plain.options, quantization)
    _require_package()
    weights = stock_weights(plain, companions)
    spec = _specification(weights, plain.options)
    _register_vocabularies(spec, companions)
    _describe(spec.config, plain.options, companions)
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))
    for name, source in companions.subwords.items():
        shutil.copyfile(source, folder / name)


def refuse_unsupported(options: dict, quantization: Optional[str]) -> None:
    """Raises one error that lists every option which CTranslate2 has no counterpart for."""
    activation = options.get("activation_fn") or "relu"
    flags = (
        "no_token_positional_embeddings",
        "no_cross_attention",
        "cross_self_attention",
        "adaptive_input",
        "adaptive_softmax_cutoff",
        "merge_src_tgt_embed",
        "char_inputs",
    )
    widths = {options.get(f"decoder_{part}") for part in ("embed_dim", "input_dim", "output_dim")}
    checks = [
        (
            activation in _ACTIVATIONS,
            f"--activation-fn {activation} (it has {', '.join(_ACTIVATIONS)})",
        ),
        *((not options.get(flag), f"--{flag.replace('_', '-')}") for flag in flags),
        (len(widths) == 1, "a decoder whose input, inner and output dimensions differ"),
        (
            quantization is None or quantization in QUANTIZATIONS,
            f"--quantization {quantization} (it has {', '.join(QUANTIZATIONS)})",
        ),
    ]
    reasons = [reason for fine, reason in checks if not fine]
    if reasons:
        raise ValueError("CTranslate2 does not support: " + "; ".join(reasons))


def _require_package() -> None:
    try:
        import ctranslate2  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "ctranslate2 is not installed; install it with: pip install 'tsa-mt[deploy]'"
        ) from error


def _specification(weights: StateDict, options: dict) -> Any:
    """A `TransformerSpec` that holds the weights."""
    from ctranslate2.specs import common_spec, transformer_spec

    activation = common_spec.Activation[_ACTIVATIONS[options.get("activation_fn") or "relu"]]
    common = {"activation": activation, "layernorm_embedding": bool(options["layernorm_embedding"])}
    encoder = transformer_spec.TransformerEncoderSpec(
        options["encoder_layers"],
        options["encoder_attention_heads"],
        pre_norm=bool(options["encoder_normalize_before"]),
        **common,
    )
    decoder = transformer_spec.TransformerDecoderSpec(
        options["decoder_layers"],
        options["decoder_attention_heads"],
        pre_norm=bool(options["decoder_normalize_before"]),
        no_final_norm="decoder.layer_norm.weight" not in weights,
        alignment_layer=options["decoder_layers"] - 1,
        **common,
    )
    _fill_stack(encoder, weights, options, "encoder")
    _fill_stack(decoder, weights, options, "decoder")
    decoder.projection.weight = _take(weights, "decoder.output_projection.weight")
    spec = transformer_spec.TransformerSpec(encoder, decoder)
    spec.config.decoder_start_token = spec.config.eos_token
    spec.config.add_source_eos = True
    return spec


def _fill_stack(spec: Any, weights: StateDict, options: dict, side: str) -> None:
    """Embeddings, positions, norms and layers of the encoder or the decoder."""
    embeddings = spec.embeddings[0] if isinstance(spec.embeddings, list) else spec.embeddings
    embeddings.weight = _take(weights, f"{side}.embed_tokens.weight")
    spec.scale_embeddings = not options["no_scale_embedding"]
    spec.position_encodings.encodings = positions(weights, options, side)
    for name in ("layer_norm", "layernorm_embedding"):
        if f"{side}.{name}.weight" in weights:
            _fill_norm(getattr(spec, name), weights, f"{side}.{name}")
    for index, layer in enumerate(spec.layer):
        _fill_layer(layer, weights, f"{side}.layers.{index}")


def _fill_layer(spec: Any, weights: StateDict, name: str) -> None:
    """One Transformer layer; the decoder's has attention over the source as well."""
    _fill_linear(spec.self_attention.linear[0], weights, _parts(name, "self_attn", "qkv"))
    _fill_linear(spec.self_attention.linear[1], weights, [f"{name}.self_attn.out_proj"])
    _fill_norm(spec.self_attention.layer_norm, weights, f"{name}.self_attn_layer_norm")
    if hasattr(spec, "attention"):
        _fill_linear(spec.attention.linear[0], weights, _parts(name, "encoder_attn", "q"))
        _fill_linear(spec.attention.linear[1], weights, _parts(name, "encoder_attn", "kv"))
        _fill_linear(spec.attention.linear[2], weights, [f"{name}.encoder_attn.out_proj"])
        _fill_norm(spec.attention.layer_norm, weights, f"{name}.encoder_attn_layer_norm")
    _fill_linear(spec.ffn.linear_0, weights, [f"{name}.fc1"])
    _fill_linear(spec.ffn.linear_1, weights, [f"{name}.fc2"])
    _fill_norm(spec.ffn.layer_norm, weights, f"{name}.final_layer_norm")


def _parts(layer: str, attention: str, letters: str) -> List[str]:
    return [f"{layer}.{attention}.{letter}_proj" for letter in letters]


def _fill_linear(spec: Any, weights: StateDict, names: List[str]) -> None:
    """A linear map; several of them are stacked, since they read the same input."""
    spec.weight = torch.cat([_take(weights, f"{name}.weight") for name in names])
    spec.bias = torch.cat([_take(weights, f"{name}.bias") for name in names])


def _fill_norm(spec: Any, weights: StateDict, name: str) -> None:
    spec.gamma = _take(weights, f"{name}.weight")
    spec.beta = _take(weights, f"{name}.bias")


def _take(weights: StateDict, name: str) -> Tensor:
    """A copy, because quantisation scales the arrays it is given in place."""
    return weights[name].detach().clone()


def positions(weights: StateDict, options: dict, side: str) -> Tensor:
    """Position embeddings of one side from the first real position on, ``(positions, dim)``.

    Args:
        weights: The model's.
        options: Its options.
        side: ``encoder`` or ``decoder``.
    """
    pad = 1  # fairseq's pad index: positions count from pad + 1
    learned = weights.get(f"{side}.embed_positions.weight")
    if learned is not None:
        return learned[pad + 1 :].detach().clone()
    count = options.get(f"max_{'source' if side == 'encoder' else 'target'}_positions") or 1024
    dim = options[f"{side}_embed_dim"]
    table = SinusoidalPositionalEmbedding.get_embedding(count + pad + 1, dim, pad)
    return table[pad + 1 :]


def _register_vocabularies(spec: Any, companions: Companions) -> None:
    """The symbols of both dictionaries, in their order; pad is what CTranslate2 calls blank."""
    register = (spec.register_source_vocabulary, spec.register_target_vocabulary)
    for path, put in zip(companions.dictionaries, register, strict=True):
        dictionary = Dictionary.load(str(path))
        pad = dictionary.pad_word
        put(["<blank>" if symbol == pad else symbol for symbol in dictionary.symbols])


def _describe(config: Any, options: dict, companions: Companions) -> None:
    """What the model's file does not tell a reader: its languages and how much it reads."""
    for side, language in zip(("source", "target"), companions.languages, strict=True):
        config.add_attribute(f"{side}_lang", language)
        config.add_attribute(f"max_{side}_positions", options.get(f"max_{side}_positions") or 1024)


def usage(companions: Companions) -> Usage:
    """How to translate with such a folder."""
    model = 'translator = ctranslate2.Translator(".")'
    if companions.bpe != "sentencepiece":
        package = {"subword_nmt": " and subword-nmt"}.get(companions.bpe or "", "")
        code: Tuple[str, ...] = (
            "import ctranslate2",
            model,
            'pieces = "A sentence to translate.".split()  # its subword pieces, if it has any',
            "print(translator.translate_batch([pieces], beam_size=5)[0].hypotheses[0])",
        )
        return Usage("a CTranslate2 model", f"ctranslate2{package}", code)
    (name,) = companions.subwords
    code = (
        "import ctranslate2, sentencepiece",
        f'pieces = sentencepiece.SentencePieceProcessor(model_file="{name}")',
        model,
        'source = [pieces.encode("A sentence to translate.", out_type=str)]',
        "print(pieces.decode(translator.translate_batch(source, beam_size=5)[0].hypotheses[0]))",
    )
    return Usage("a CTranslate2 model", "ctranslate2 and sentencepiece", code)
