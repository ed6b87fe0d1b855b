"""A translation model to plan: its vocabularies and sentences of one length."""

from argparse import Namespace
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Dict, Tuple

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY
from fairseq.modules import SinusoidalPositionalEmbedding
from torch import Tensor, nn

from tsa_mt.criterion import OnlineKDCriterion
from tsa_mt.plan.subject import Subject, of_leader
from tsa_mt.teacher import Teacher
from tsa_mt.translation.bridge import build_bridge
from tsa_mt.translation.config import flat_namespace
from tsa_mt.translation.model import TreeTransformer, resolve_tree
from tsa_mt.tree import Tree


@dataclass(frozen=True)
class TranslationSubject(Subject):
    """A tree Transformer and sentences; see `Subject`.

    Attributes:
        vocabulary: Symbols of the source and of the target dictionary, specials included.
        lengths: Pieces of a source and of a target sentence, the end symbol included.
        max_tokens: Pieces per batch, of the longer side.

    Raises:
        ValueError: A batch has no room for a single sentence.
    """

    unit = "target token"
    input_name = "sentence"

    vocabulary: Tuple[int, int] = (10_000, 10_000)
    lengths: Tuple[int, int] = (25, 25)
    max_tokens: int = 4096

    def __post_init__(self):
        if self.max_tokens < max(self.lengths):
            raise ValueError(
                f"--max-tokens {self.max_tokens} leaves no room for a sentence of "
                f"{max(self.lengths)} pieces; give more, or shorter sentences with "
                f"--source-length and --target-length"
            )

    @property
    def sentences(self) -> int:
        """Sentences in a batch."""
        return self.max_tokens // max(self.lengths)

    @property
    def rows(self) -> int:
        """Target tokens in a batch."""
        return self.sentences * self.lengths[1]

    @property
    def batch_text(self) -> str:
        """See `Subject.batch_text`."""
        source, target = self.lengths
        return f"{self.sentences} sentences of {source} and {target} pieces"

    @property
    def targets(self) -> int:
        """Target tokens of a sentence."""
        return self.lengths[1]

    def task(self) -> Any:
        """Two dictionaries; a joined one if both have the same size."""
        source, target = (_dictionary(size) for size in self.vocabulary)
        return SimpleNamespace(source_dictionary=source, target_dictionary=target)

    @property
    def tree(self) -> Tree:
        """See `Subject.tree`."""
        return resolve_tree(flat_namespace(self._config()))

    def _config(self) -> Namespace:
        args = Namespace(arch=self.arch, **self.options)
        ARCH_CONFIG_REGISTRY[self.arch](args)
        return args

    def model(self) -> nn.Module:
        """The model, newly built."""
        return TreeTransformer.build_model(self._config(), self.task())

    def teach(self, model: Any, criterion: OnlineKDCriterion) -> None:
        """See `Subject.teach`."""
        teacher = Teacher(self.teacher().model(), "a plain network")
        criterion.teachers = [teacher]
        if model.objective.needs_bridge:
            model.decoder.branches.bridge = build_bridge(teacher, model.objective)

    def batch(self, model: Any) -> Dict[str, Any]:
        """Sentences of one length."""
        source, target = self._tokens(self.sentences)
        return {
            "net_input": self._inputs(source, target),
            "target": target.clone(),
            "ntokens": self.rows,
        }

    def single(self) -> Dict[str, Tensor]:
        """One sentence pair."""
        return self._inputs(*self._tokens(1))

    def _tokens(self, sentences: int) -> Tuple[Tensor, Tensor]:
        source, target = (
            torch.randint(4, size, (sentences, length))
            for size, length in zip(self.vocabulary, self.lengths)
        )
        return source, target

    def _inputs(self, source: Tensor, target: Tensor) -> Dict[str, Tensor]:
        lengths = torch.full((len(source),), source.shape[1])
        return {"src_tokens": source, "src_lengths": lengths, "prev_output_tokens": target}

    def deployed_bytes(self, model: nn.Module) -> Dict[str, int]:
        """Sizes of the stock fairseq export and of CTranslate2's int8.

        CTranslate2 keeps matrices in int8 with one float32 scale a row, and positions in float32;
        tables of positions that are alike it keeps once.
        """
        own = [tensor for _, tensor in of_leader(model.named_parameters())]
        rounded = sum(t.numel() + 4 * len(t) if t.ndim > 1 else 4 * t.numel() for t in own)
        tables = {
            module.weights.shape
            for _, module in of_leader(model.named_modules())
            if isinstance(module, SinusoidalPositionalEmbedding)
        }
        positions = sum(shape.numel() for shape in tables)
        return {"fp32": 4 * sum(t.numel() for t in own), "int8": rounded + 4 * positions}


@lru_cache(maxsize=8)
def _dictionary(size: int) -> Dictionary:
    dictionary = Dictionary()
    if size <= len(dictionary):
        raise ValueError(
            f"--vocab {size}: a dictionary has {len(dictionary)} specials and at least one word"
        )
    for number in range(size - len(dictionary)):
        dictionary.add_symbol(f"w{number}")
    return dictionary
