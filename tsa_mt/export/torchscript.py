"""A TorchScript program that translates pieces, beam search included.

fairseq's `SequenceGenerator` is written so that `torch.jit.script` accepts it with a stock
Transformer inside. A thin wrapper adds the two vocabularies, so that the file takes and gives
subword pieces and needs PyTorch alone: from Python, or from C++ through libtorch.
"""

import shutil
import warnings
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from fairseq.data import Dictionary
from fairseq.sequence_generator import SequenceGenerator
from torch import Tensor, nn

from tsa_mt.export.companions import Companions
from tsa_mt.export.fairseq import stock_model
from tsa_mt.export.folder import new_folder
from tsa_mt.export.leader import PlainTransformer
from tsa_mt.export.readme import Usage, write_readme
from tsa_mt.files import PathLike

MODEL = "model.ts"
MAX_LENGTH = 200
"""Pieces at which a translation is cut, as `fairseq-generate` does by default."""


class ScriptedTranslator(nn.Module):
    """Beam search over pieces: what is scripted and saved.

    Args:
        model: A stock Transformer with its weights.
        source: Dictionary of the source.
        target: Dictionary of the target.
        plain: What the model was made from.
        languages: Codes of source and target.

    Attributes:
        source_limit: Most pieces of a source.
        languages: Codes of source and target.
    """

    def __init__(
        self,
        model: Any,
        source: Dictionary,
        target: Dictionary,
        plain: PlainTransformer,
        languages: Tuple[str, str],
    ):
        super().__init__()
        self.generator = SequenceGenerator([model], target, beam_size=5, max_len_b=MAX_LENGTH)
        self.source_ids: Dict[str, int] = dict(source.indices)
        self.target_symbols: List[str] = list(target.symbols)
        self.source_pad: int = source.pad()
        self.source_eos: int = source.eos()
        self.source_unk: int = source.unk()
        self.largest_beam: int = len(target) - 1  # pad is never chosen
        self.left_pad: bool = bool(plain.task.get("left_pad_source", True))
        limits = (plain.task.get("max_source_positions") or 1024, model.max_positions()[0])
        self.source_limit: int = int(min(limits)) - 1
        self.languages: List[str] = list(languages)

    def forward(
        self,
        sentences: List[List[str]],
        beam: int = 5,
        n_best: int = 1,
        length_penalty: float = 1.0,
    ) -> List[List[Tuple[float, List[str]]]]:
        """Translates one batch.

        Args:
            sentences: Source pieces of every sentence, without an end symbol.
            beam: Width of the beam.
            n_best: Translations wanted of each sentence, best first.
            length_penalty: Exponent of the length by which a log probability is divided.

        Returns:
            Of every sentence the translations, each as score and pieces.
        """
        if len(sentences) == 0:
            return []
        self.generator.beam_size = min(beam, self.largest_beam)
        self.generator.len_penalty = length_penalty
        tokens, lengths = self.batch(sentences)
        found = self.generator({"net_input": {"src_tokens": tokens, "src_lengths": lengths}})
        results: List[List[Tuple[float, List[str]]]] = []
        for hypotheses in found:
            best: List[Tuple[float, List[str]]] = []
            for hypothesis in hypotheses[:n_best]:
                best.append((float(hypothesis["score"]), self.pieces(hypothesis["tokens"])))
            results.append(best)
        return results

    def batch(self, sentences: List[List[str]]) -> Tuple[Tensor, Tensor]:
        """Padded piece numbers ``(sentences, longest + 1)``, and their lengths."""
        longest = 1
        for sentence in sentences:
            longest = max(longest, len(sentence) + 1)
        tokens = torch.full((len(sentences), longest), self.source_pad, dtype=torch.long)
        lengths: List[int] = []
        for row, sentence in enumerate(sentences):
            start = longest - len(sentence) - 1 if self.left_pad else 0
            for column, piece in enumerate(sentence):
                tokens[row, start + column] = self.source_ids.get(piece, self.source_unk)
            tokens[row, start + len(sentence)] = self.source_eos
            lengths.append(len(sentence) + 1)
        return tokens, torch.tensor(lengths)

    def pieces(self, tokens: Tensor) -> List[str]:
        """The symbols of one translation, without the end symbol that closes it."""
        numbers: List[int] = tokens.tolist()
        return [self.target_symbols[number] for number in numbers[:-1]]


def write_torchscript(
    plain: PlainTransformer, companions: Companions, out: PathLike, force: bool = False
) -> Path:
    """Writes the program, dictionaries, subword model and a README into a new folder.

    Args:
        plain: The model.
        companions: The files that belong to it.
        out: The folder to write.
        force: Replace an earlier export.

    Raises:
        FileExistsError: ``out`` exists and may not be replaced.
        ValueError: TorchScript cannot express the model.
    """
    with new_folder(out, MODEL, force) as folder:
        fill(plain, companions, folder)
        write_readme(folder, plain, companions, usage(companions))
    return Path(out)


def fill(plain: PlainTransformer, companions: Companions, folder: Path) -> None:
    """Writes everything but the README into a folder."""
    model, source, target = stock_model(plain, companions)
    translator = ScriptedTranslator(model, source, target, plain, companions.languages)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that TorchScript is no longer developed
        try:
            scripted = torch.jit.script(translator.requires_grad_(False))
        except RuntimeError as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), "no reason")
            raise ValueError(f"TorchScript cannot express this model: {reason}") from error
        scripted.save(str(folder / MODEL))
    for name, path in companions.files.items():
        shutil.copyfile(path, folder / name)


def usage(companions: Companions) -> Usage:
    """How to translate with such a folder."""
    more = f"""`{MODEL}` is called with a batch of sentences as lists of pieces, a beam, how many
translations of each are wanted, and the exponent of the length penalty: `model(batch, 5, 1, 1.0)`.
It gives of each sentence its translations as pairs of score and pieces, best first. It holds the
dictionaries; the files are for other tools."""
    model = f'model = torch.jit.load("{MODEL}")'
    if companions.bpe != "sentencepiece":
        code: Tuple[str, ...] = (
            "import torch",
            model,
            'pieces = "A sentence to translate.".split()  # its subword pieces, if it has any',
            "print(model([pieces])[0][0][1])",
        )
        return Usage("a TorchScript program", "torch", code, more)
    (name,) = companions.subwords
    code = (
        "import sentencepiece, torch",
        f'pieces = sentencepiece.SentencePieceProcessor(model_file="{name}")',
        model,
        'source = [pieces.encode("A sentence to translate.", out_type=str)]',
        "print(pieces.decode(model(source)[0][0][1]))",
    )
    return Usage("a TorchScript program", "torch and sentencepiece", code, more)
