"""Translating with a ``--to torchscript`` folder: the program searches by itself."""

import warnings
from pathlib import Path
from typing import List, Optional, Sequence

import torch

from tsa_mt.export.companions import find_companions
from tsa_mt.export.torchscript import MAX_LENGTH, MODEL
from tsa_mt.translate.subwords import find_codec
from tsa_mt.translate.translator import Decoding, Scored, Translator


class TorchScriptTranslator(Translator):
    """A scripted model with fairseq's beam search inside.

    Args:
        program: What `ScriptedTranslator` became.
        codec: The subword model.
        decoding: How to search.
        limit: Most pieces of a source.
    """

    def __init__(self, program, codec, decoding: Decoding, limit: int):
        super().__init__(codec, decoding, limit)
        self.program = program

    def decode_batch(self, sentences: Sequence[Sequence[str]]) -> List[List[Scored]]:
        """See `Translator.decode_batch`."""
        beam = self.decoding.beam
        batch = [list(pieces) for pieces in sentences]
        with torch.jit.optimized_execution(False):  # which costs seconds and gains nothing here
            found = self.program(batch, beam, beam, self.decoding.lenpen)
        return [[(pieces, score) for score, pieces in row] for row in found]


def load(
    path: Path, branch: int, data: Optional[Path], decoding: Decoding, threads: Optional[int]
) -> TorchScriptTranslator:
    """Loads a folder that ``tsa-mt export --to torchscript`` wrote; see `load_translator`."""
    if branch != 0:
        raise ValueError(
            f"branch {branch} does not exist: {path} is an export and holds a single branch"
        )
    if (decoding.max_length, decoding.min_length) != (MAX_LENGTH, 1):
        raise ValueError(
            f"a TorchScript program translates into 1 to {MAX_LENGTH} pieces, not "
            f"{decoding.min_length} to {decoding.max_length}; use another export for other lengths"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that TorchScript is no longer developed
        program = torch.jit.load(str(path / MODEL), map_location="cpu")
    if threads is not None:
        torch.set_num_threads(threads)
    languages = {"source_lang": program.languages[0], "target_lang": program.languages[1]}
    companions = find_companions(languages, path / MODEL, data or path)
    symbols = list(program.source_ids)
    place = companions.dictionaries[0].parent
    codec = find_codec(companions.subwords, companions.languages, symbols, place)
    return TorchScriptTranslator(program, codec, decoding, program.source_limit)
