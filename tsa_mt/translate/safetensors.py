"""Translating with a ``--to safetensors`` folder, through fairseq's beam search."""

from pathlib import Path
from typing import Optional

import torch

from tsa_mt.export.companions import find_companions
from tsa_mt.export.fairseq import stock_model
from tsa_mt.export.safetensors import CONFIG, read_safetensors
from tsa_mt.translate.fairseq import FairseqTranslator
from tsa_mt.translate.subwords import find_codec
from tsa_mt.translate.translator import Decoding


def load(
    path: Path, branch: int, data: Optional[Path], decoding: Decoding, threads: Optional[int]
) -> FairseqTranslator:
    """Loads a folder that ``tsa-mt export --to safetensors`` wrote; see `load_translator`."""
    plain = read_safetensors(path, branch)
    companions = find_companions(plain.task, path / CONFIG, data or path)
    model, source, target = stock_model(plain, companions)
    if threads is not None:
        torch.set_num_threads(threads)
    codec = find_codec(
        companions.subwords,
        companions.languages,
        source.symbols,
        companions.dictionaries[0].parent,
    )
    left_pad = bool(plain.task.get("left_pad_source", True))
    limits = (plain.task.get("max_source_positions") or 1024, model.max_positions()[0])
    limit = int(min(limits)) - 1
    return FairseqTranslator(model, (source, target), codec, decoding, left_pad, limit)
