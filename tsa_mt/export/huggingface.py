"""A Hugging Face folder: the model as `MarianMTModel`, with a `MarianTokenizer`.

transformers' Marian network is fairseq's post-norm Transformer under the same names. Two things
look different and are not: Marian's sinusoidal positions have another formula, but the table is a
weight that is loaded from the file, so fairseq's own is stored; and fairseq starts decoding from
the end symbol, which is an option. A model that the class cannot represent exactly is refused.
Writing needs safetensors only; translating with the folder needs transformers.
"""

import shutil
from pathlib import Path
from typing import Dict, List

import torch
from fairseq.data import Dictionary
from torch import Tensor

from tsa_mt.export.checkpoint import StateDict
from tsa_mt.export.companions import SENTENCEPIECE, Companions
from tsa_mt.export.ctranslate2 import positions
from tsa_mt.export.fairseq import stock_weights
from tsa_mt.export.folder import new_folder
from tsa_mt.export.leader import PlainTransformer
from tsa_mt.export.readme import Usage, write_readme
from tsa_mt.export.safetensors import CONFIG, save_tensors
from tsa_mt.files import PathLike, write_json

MODEL = "model.safetensors"
MODEL_TYPE = "marian"
GENERATION = "generation_config.json"
TOKENIZER = "tokenizer_config.json"
VOCABULARIES = ("vocab.json", "target_vocab.json")
SUBWORDS = ("source.spm", "target.spm")
BOS, PAD, EOS, UNK = range(4)
"""Numbers that fairseq's dictionaries give their special symbols."""
MAX_LENGTH = 200

_ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
    "swish": "silu",
}
_LACKING = (
    "encoder_normalize_before",
    "decoder_normalize_before",
    "layernorm_embedding",
    "no_token_positional_embeddings",
    "no_cross_attention",
    "cross_self_attention",
    "adaptive_input",
    "adaptive_softmax_cutoff",
    "merge_src_tgt_embed",
    "char_inputs",
)


def write_huggingface(
    plain: PlainTransformer, companions: Companions, out: PathLike, force: bool = False
) -> Path:
    """Writes the model, its configuration and tokenizer and a README into a new folder.

    Args:
        plain: The model.
        companions: Its dictionaries and subword model.
        out: The folder to write.
        force: Replace an earlier export.

    Raises:
        FileExistsError: ``out`` exists and may not be replaced.
        ValueError: Marian cannot represent the model exactly; every reason is listed.
    """
    with new_folder(out, MODEL, force) as folder:
        fill(plain, companions, folder)
        write_readme(folder, plain, companions, usage(companions))
    return Path(out)


def fill(plain: PlainTransformer, companions: Companions, folder: Path) -> None:
    """Writes everything but the README into a folder.

    Raises:
        ValueError: Marian cannot represent the model exactly; every reason is listed.
    """
    refuse_unsupported(plain.options, companions)
    weights = stock_weights(plain, companions)
    tied = _same(weights, "decoder.embed_tokens", "decoder.output_projection")
    shared = tied and _same(weights, "encoder.embed_tokens", "decoder.embed_tokens")
    save_tensors(_tensors(weights, plain.options, shared, tied), folder / MODEL)
    source, target = (Dictionary.load(str(path)) for path in companions.dictionaries)
    sizes = {"vocab_size": len(source), "decoder_vocab_size": len(target)}
    sharing = {"share_encoder_decoder_embeddings": shared, "tie_word_embeddings": tied}
    write_json(folder / CONFIG, {**_configuration(plain.options), **sizes, **sharing})
    write_json(folder / GENERATION, _generation())
    _write_tokenizer(folder, companions, source, target)


def refuse_unsupported(options: dict, companions: Companions) -> None:
    """Raises one error that lists everything which Marian has no counterpart for."""
    activation = options.get("activation_fn") or "relu"
    widths = {options.get(f"decoder_{part}") for part in ("embed_dim", "input_dim", "output_dim")}
    widths.add(options.get("encoder_embed_dim"))
    checks = [
        (
            activation in _ACTIVATIONS,
            f"--activation-fn {activation} (it has {', '.join(_ACTIVATIONS)})",
        ),
        *((not options.get(flag), f"--{flag.replace('_', '-')}") for flag in _LACKING),
        (len(widths) == 1, "an encoder and decoder of different widths"),
        (
            all(name.endswith(".model") for name in companions.subwords) and companions.subwords,
            "a subword model that is not SentencePiece's, or none",
        ),
    ]
    reasons = [reason for fine, reason in checks if not fine]
    if reasons:
        raise ValueError(
            "transformers' MarianMTModel, the post-norm Transformer that huggingface exports are "
            "made for, does not support: " + "; ".join(reasons)
        )


def _same(weights: StateDict, one: str, other: str) -> bool:
    tensors = [weights[f"{name}.weight"] for name in (one, other)]
    return tensors[0].shape == tensors[1].shape and torch.equal(*tensors)


def _tensors(weights: StateDict, options: dict, shared: bool, tied: bool) -> Dict[str, Tensor]:
    """The weights under Marian's names, each table once."""
    renamed = {"decoder.output_projection.weight": "lm_head.weight"}
    left_out = {"encoder.version", "decoder.version"}
    if shared:
        renamed["encoder.embed_tokens.weight"] = "model.shared.weight"
        left_out.add("decoder.embed_tokens.weight")
    if tied:
        left_out.add("decoder.output_projection.weight")
    tensors = {
        renamed.get(name, f"model.{name}"): tensor
        for name, tensor in weights.items()
        if name not in left_out and "embed_positions" not in name
    }
    for side in ("encoder", "decoder"):
        table = positions(weights, options, side)
        missing = _position_count(options) - len(table)  # Marian has one number for both sides
        tensors[f"model.{side}.embed_positions.weight"] = torch.nn.functional.pad(
            table, (0, 0, 0, missing)
        )
    return tensors


def _position_count(options: dict) -> int:
    return max(options.get(f"max_{side}_positions") or 1024 for side in ("source", "target"))


def _configuration(options: dict) -> dict:
    sides = {
        f"{side}_{theirs}": options[f"{side}_{ours}"]
        for side in ("encoder", "decoder")
        for theirs, ours in (
            ("layers", "layers"),
            ("attention_heads", "attention_heads"),
            ("ffn_dim", "ffn_embed_dim"),
        )
    }
    return {
        "architectures": ["MarianMTModel"],
        "model_type": MODEL_TYPE,
        "is_encoder_decoder": True,
        "d_model": options["encoder_embed_dim"],
        **sides,
        "activation_function": _ACTIVATIONS[options.get("activation_fn") or "relu"],
        "scale_embedding": not options["no_scale_embedding"],
        "max_position_embeddings": _position_count(options),
        "dropout": float(options.get("dropout") or 0.0),
        "attention_dropout": float(options.get("attention_dropout") or 0.0),
        "activation_dropout": float(options.get("activation_dropout") or 0.0),
        **_symbols(),
    }


def _symbols() -> dict:
    return {
        "bos_token_id": BOS,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "decoder_start_token_id": EOS,
        "forced_eos_token_id": EOS,
    }


def _generation() -> dict:
    """Beam search as ``fairseq-generate --beam 5`` does it."""
    return {
        **_symbols(),
        "num_beams": 5,
        "length_penalty": 1.0,
        "early_stopping": True,  # when as many translations as beams are complete
        "min_new_tokens": 1,
        "max_new_tokens": MAX_LENGTH + 1,
        "suppress_tokens": [PAD],
    }


def _write_tokenizer(
    folder: Path, companions: Companions, source: Dictionary, target: Dictionary
) -> None:
    """Vocabularies, subword models and the settings of a `MarianTokenizer`."""
    separate = source.symbols != target.symbols
    for name, dictionary in zip(VOCABULARIES, (source, target), strict=True):
        if separate or name == VOCABULARIES[0]:
            write_json(folder / name, {symbol: n for n, symbol in enumerate(dictionary.symbols)})
    for name, path in zip(SUBWORDS, _subword_models(companions), strict=True):
        shutil.copyfile(path, folder / name)
    settings = {
        "tokenizer_class": "MarianTokenizer",
        "source_lang": companions.languages[0],
        "target_lang": companions.languages[1],
        "separate_vocabs": separate,
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
        **dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), source.symbols)),
    }
    write_json(folder / TOKENIZER, settings)


def _subword_models(companions: Companions) -> List[Path]:
    """The model of each language, source first; a joint model counts for both."""
    found = companions.subwords
    if SENTENCEPIECE in found:
        return [found[SENTENCEPIECE]] * 2
    return [
        next(path for name, path in found.items() if language in name.split("."))
        for language in companions.languages
    ]


def usage(companions: Companions) -> Usage:
    """How to translate with such a folder."""
    return Usage(
        title="a Hugging Face model (Marian)",
        needs="transformers, torch, sentencepiece and sacremoses",
        code=(
            "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer",
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            'model = AutoModelForSeq2SeqLM.from_pretrained(".")',
            'batch = tokenizer(["A sentence to translate."], return_tensors="pt", padding=True)',
            "print(tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True)[0])",
        ),
        more=f"`{GENERATION}` sets the beam, lengths and symbols as fairseq has them; the score of "
        "a translation is fairseq's.",
    )
