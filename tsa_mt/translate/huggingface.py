"""Translating with a ``--to huggingface`` folder, through transformers' beam search."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

from tsa_mt.export.huggingface import EOS, PAD, SUBWORDS, TOKENIZER, UNK, VOCABULARIES
from tsa_mt.files import read_object
from tsa_mt.translate.subwords import SentencePiece
from tsa_mt.translate.translator import Decoding, Scored, Translator


class HuggingFaceTranslator(Translator):
    """A Marian model of transformers, asked with pieces instead of text.

    Args:
        model: A `MarianMTModel`.
        vocabularies: Numbers of the pieces of source and target.
        codec: The subword model.
        decoding: How to search.
    """

    def __init__(self, model, vocabularies: Tuple[Dict[str, int], ...], codec, decoding: Decoding):
        super().__init__(codec, decoding, model.config.max_position_embeddings - 1)
        self.model = model
        self.source, target = vocabularies
        self.target = {number: piece for piece, number in target.items()}
        self.beam = min(decoding.beam, len(target) - 1)

    def decode_batch(self, sentences: Sequence[Sequence[str]]) -> List[List[Scored]]:
        """See `Translator.decode_batch`."""
        rows = [
            torch.tensor([*(self.source.get(piece, UNK) for piece in pieces), EOS])
            for pieces in sentences
        ]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
        with torch.no_grad():
            found = self.model.generate(
                input_ids=tokens,
                attention_mask=tokens.ne(PAD).long(),
                num_beams=self.beam,
                num_return_sequences=self.beam,
                length_penalty=self.decoding.lenpen,
                min_new_tokens=self.decoding.min_length,
                max_new_tokens=self.decoding.max_length + 1,  # and the end symbol
                output_scores=True,
                return_dict_in_generate=True,
            )
        pairs = zip(found.sequences.tolist(), self._scores(found), strict=True)
        every: List[Scored] = [(self._pieces(numbers), score) for numbers, score in pairs]
        return [every[i : i + self.beam] for i in range(0, len(every), self.beam)]

    def _scores(self, found) -> List[float]:
        """Of a beam of one there is no search, and its scores have to be added up."""
        if self.beam > 1:
            return found.sequences_scores.tolist()
        steps = self.model.compute_transition_scores(
            found.sequences, found.scores, normalize_logits=False
        )
        lengths = found.sequences[:, 1:].ne(PAD).sum(dim=1)
        kept = steps.masked_fill(found.sequences[:, 1:].eq(PAD), 0.0)
        return (kept.sum(dim=1) / lengths**self.decoding.lenpen).tolist()

    def _pieces(self, numbers: List[int]) -> List[str]:
        return [self.target[number] for number in numbers if number not in (0, PAD, EOS)]


def load(
    path: Path, branch: int, data: Optional[Path], decoding: Decoding, threads: Optional[int]
) -> HuggingFaceTranslator:
    """Loads a folder that ``tsa-mt export --to huggingface`` wrote; see `load_translator`."""
    if branch != 0:
        raise ValueError(
            f"branch {branch} does not exist: {path} is an export and holds a single branch"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    model = _marian().from_pretrained(str(path)).eval()
    settings = read_object(path / TOKENIZER)
    names = VOCABULARIES if settings["separate_vocabs"] else VOCABULARIES[:1] * 2
    vocabularies = tuple(read_object(path / name) for name in names)
    languages = (settings["source_lang"], settings["target_lang"])
    codec = SentencePiece(path / SUBWORDS[0])
    codec.languages = languages
    return HuggingFaceTranslator(model, vocabularies, codec, decoding)


def _marian() -> Any:
    try:
        from transformers import MarianMTModel
    except (ImportError, OSError, RuntimeError) as error:  # a library of it may not load
        if find_spec("transformers") is None:
            reason = "is not installed; install it with: pip install 'tsa-mt[huggingface]'"
        else:
            reason = (
                f"is installed, but its Marian model cannot be imported ({error}); often the cause "
                "is a torchvision or torchaudio built for another torch: reinstall or remove it"
            )
        raise ValueError(f"transformers {reason}") from error
    return MarianMTModel
