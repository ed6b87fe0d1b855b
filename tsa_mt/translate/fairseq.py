"""Translating with a checkpoint of a tree or a stock Transformer, by fairseq's beam search."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Optional, Sequence, Tuple

import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from fairseq.data import Dictionary
from fairseq.data.data_utils import collate_tokens
from fairseq.dataclass.configs import GenerationConfig
from fairseq.models import build_model
from fairseq.sequence_generator import SequenceGenerator
from fairseq.utils import eval_bool
from omegaconf import OmegaConf
from torch import Tensor, nn

from tsa_mt.export.checkpoint import load_checkpoint, options_of
from tsa_mt.export.companions import find_companions
from tsa_mt.export.leader import tree_of
from tsa_mt.sources import AVERAGED
from tsa_mt.teacher import SETTLED
from tsa_mt.translate.subwords import Codec, find_codec
from tsa_mt.translate.translator import Decoding, Scored, Translator

MODEL = "model.pt"


class FairseqTranslator(Translator):
    """A model in PyTorch, searched by fairseq's own `SequenceGenerator`.

    Args:
        model: An encoder-decoder of fairseq.
        dictionaries: Of the source and of the target.
        codec: The subword model.
        decoding: How to search.
        left_pad: Whether sources are padded on their left, as in training.
        limit: Most pieces of a source.
    """

    def __init__(
        self,
        model: nn.Module,
        dictionaries: Tuple[Dictionary, Dictionary],
        codec: Codec,
        decoding: Decoding,
        left_pad: bool,
        limit: int,
    ):
        super().__init__(codec, decoding, limit)
        self.source, self.target = dictionaries
        self.left_pad = left_pad
        self.models = [model]
        self.generator = SequenceGenerator(
            self.models,
            self.target,
            beam_size=decoding.beam,
            max_len_a=0,
            max_len_b=decoding.max_length,
            min_len=decoding.min_length,
            len_penalty=decoding.lenpen,
        )

    def decode_batch(self, sentences: Sequence[Sequence[str]]) -> List[List[Scored]]:
        """See `Translator.decode_batch`."""
        end = self.source.eos()
        rows = [
            torch.tensor([*(self.source.index(piece) for piece in pieces), end])
            for pieces in sentences
        ]
        sample = {
            "id": torch.arange(len(rows)),
            "net_input": {
                "src_tokens": collate_tokens(rows, self.source.pad(), left_pad=self.left_pad),
                "src_lengths": torch.tensor([len(row) for row in rows]),
            },
        }
        found = self.generator.generate(self.models, sample)
        return [[(self._pieces(h["tokens"]), float(h["score"])) for h in row] for row in found]

    def _pieces(self, tokens: Tensor) -> List[str]:
        hidden = {self.target.eos(), self.target.bos(), self.target.pad()}
        return [self.target[number] for number in tokens.tolist() if number not in hidden]


def load(
    path: Path, branch: int, data: Optional[Path], decoding: Decoding, threads: Optional[int]
) -> FairseqTranslator:
    """Loads a checkpoint, or the folder of a ``--to fairseq`` export; see `load_translator`."""
    if path.is_dir():
        path, data = path / MODEL, data or path
    state = _read(path, branch)
    task = options_of(state, "task")
    _refuse(options_of(state, "model"), task, path, branch)
    companions = find_companions(task, path, data)
    source, target = (Dictionary.load(str(file)) for file in companions.dictionaries)
    model = _build(state, source, target, path)
    if threads is not None:
        torch.set_num_threads(threads)
    codec = find_codec(
        companions.subwords,
        companions.languages,
        source.symbols,
        companions.dictionaries[0].parent,
    )
    left_pad = eval_bool(task.get("left_pad_source", True), default=True)
    limits = (task.get("max_source_positions") or 1024, model.max_positions()[0])
    return FairseqTranslator(
        model, (source, target), codec, decoding, left_pad, int(min(limits)) - 1
    )


def _read(path: Path, branch: int) -> dict:
    """The checkpoint, brought up to date, with the branch to decode written into its options."""
    try:
        return load_checkpoint_to_cpu(str(path), {**SETTLED, "decode_branch": branch})
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError):
        load_checkpoint(path)  # says in one sentence what is wrong with the file
        raise


def _refuse(model: dict, task: dict, path: Path, branch: int) -> None:
    """Raises if the checkpoint does not translate, or has no such branch."""
    if task.get("_name") != "translation":
        raise ValueError(
            f"{path} is of task '{task.get('_name')}'; only models of task 'translation' translate"
        )
    tree = tree_of(model)
    if tree is None and branch != 0:
        raise ValueError(
            f"branch {branch} does not exist: {path} is a plain Transformer with a single branch, 0"
        )
    if tree is not None and branch != AVERAGED and not -1 <= branch < len(tree.leaves):
        raise ValueError(
            f"branch {branch} does not exist: tree {tree} has the leaves 0 to "
            f"{len(tree.leaves) - 1}, 0 being the leader, and -1 is their ensemble"
        )


def _build(state: dict, source: Dictionary, target: Dictionary, path: Path) -> Any:
    """The model of a checkpoint, filled and made ready to decode."""
    config = state["cfg"]["model"]
    task = SimpleNamespace(source_dictionary=source, target_dictionary=target)
    model = build_model(config, task, from_checkpoint=True)
    try:
        model.load_state_dict(state["model"], strict=True, model_cfg=config)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"{path} does not fit its options and the dictionaries that were found ({reason}); "
            f"name the folder with its own dictionaries with --data"
        ) from error
    model.eval()
    model.prepare_for_inference_(OmegaConf.create({"generation": vars(GenerationConfig())}))
    return model
