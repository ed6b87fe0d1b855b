"""What is to be translated in which chunks, and the finished chunks on disk.

A chunk is written beside its place and renamed, so that a file under its name is a finished chunk
and a run that was killed goes on where it stopped. The plan lies beside the chunks: a folder never
mixes the chunks of two runs.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

from tsa_mt.files import PARTIAL, read_object, write_json, write_lines
from tsa_mt.forward_translate.selection import Hypothesis

CHUNKS = "chunks"


@dataclass(frozen=True)
class Chunk:
    """One share of a split: fairseq's shard ``number`` of ``total``."""

    split: str
    number: int
    total: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.split}.{self.number + 1}-of-{self.total}.tsv"


@dataclass(frozen=True)
class Plan:
    """What the translations depend on.

    Attributes:
        data: SHA-256 of the source side of every split.
        teacher: SHA-256 of every checkpoint of the teacher, with ``:BRANCH`` where that is not its
            leader.
        flags: Decoding flags.
        sentences: Number of sentences of every split.
        chunk_sentences: How many sentences a chunk has, about.
        nbest: How many hypotheses of a sentence are kept.
    """

    data: list[str]
    teacher: list[str]
    flags: list[str]
    sentences: dict[str, int]
    chunk_sentences: int
    nbest: int = 1

    @property
    def chunks(self) -> list[Chunk]:
        """All chunks of all splits, in order."""
        totals = {
            split: max(1, -(-count // self.chunk_sentences))
            for split, count in self.sentences.items()
        }
        return [
            Chunk(split, number, total)
            for split, total in totals.items()
            for number in range(total)
        ]


class Shelf:
    """The folder with the finished chunks of one plan.

    Args:
        folder: Where the command writes; chunks go to a folder in it.
        plan: What they are chunks of.

    Raises:
        ValueError: The folder holds chunks of another plan.
    """

    def __init__(self, folder: Path, plan: Plan):
        self.folder = folder / CHUNKS
        self.plan = plan
        self.folder.mkdir(parents=True, exist_ok=True)
        recorded = self.folder / "plan.json"
        if recorded.is_file():
            self._compare(read_object(recorded))
        else:
            write_json(recorded, dataclasses.asdict(plan), durable=True)

    def _compare(self, recorded: dict) -> None:
        wanted = dataclasses.asdict(self.plan)
        recorded = {"nbest": 1, **recorded}  # plans had no such entry when there was one
        changed = [name for name, value in wanted.items() if recorded.get(name) != value]
        if changed:
            details = "; ".join(f"{n} was {recorded.get(n)}, is {wanted[n]}" for n in changed)
            raise ValueError(
                f"{self.folder} holds chunks of another run ({details}); "
                f"repeat that run's arguments, name another folder, or delete this one"
            )

    def missing(self) -> list[Chunk]:
        """The chunks that are not finished."""
        return [chunk for chunk in self.plan.chunks if not self._path(chunk).is_file()]

    def _path(self, chunk: Chunk) -> Path:
        return self.folder / chunk.name

    def put(self, chunk: Chunk, translations: Dict[int, List[Hypothesis]]) -> None:
        """Stores a chunk: a line per hypothesis with its sentence's number, its score and text."""
        lines = [
            f"{number}\t{score:.6f}\t{text}"
            for number in sorted(translations)
            for text, score in translations[number]
        ]
        write_lines(self._path(chunk), lines, durable=True)

    def hypotheses(self, split: str) -> Iterator[Tuple[int, List[Hypothesis]]]:
        """The sentences of a split in the order of the chunks, each with its hypotheses.

        Raises:
            ValueError: A sentence was translated twice.
        """
        seen = bytearray(self.plan.sentences[split])
        for chunk in self.plan.chunks:
            if chunk.split != split:
                continue
            with open(self._path(chunk), encoding="utf-8", newline="\n") as file:
                for number, lines in itertools.groupby(map(_parse, file), lambda line: line[0]):
                    hypotheses = [hypothesis for _, hypothesis in lines]
                    if seen[number] or len(hypotheses) > self.plan.nbest:
                        raise ValueError(
                            f"sentence {number} of {split} was translated twice; delete "
                            f"{self._path(chunk)} and run again"
                        )
                    seen[number] = 1
                    yield number, hypotheses

    def tidy(self) -> None:
        """Removes what killed runs left half written; no other worker may be at work."""
        for path in self.folder.glob(f".*{PARTIAL}"):
            path.unlink()


def _parse(line: str) -> Tuple[int, Hypothesis]:
    """A line of a chunk; those of earlier versions have no score."""
    number, *score, text = line.rstrip("\n").split("\t", 2)
    return int(number), Hypothesis(text, float(score[0]) if score else None)
