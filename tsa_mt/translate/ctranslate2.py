"""Translating with a CTranslate2 folder as fairseq would.

The two searches are the same but for three things, of which two are mended here. CTranslate2 may
choose the padding symbol, which is forbidden here. Where a translation reaches the greatest length
it stops without the end symbol, which fairseq appends and counts; here it is appended and counted.
What stays is that CTranslate2 forbids a symbol before it normalises probabilities and fairseq
after, which matters only to a model that gives the end symbol a real chance at the first position.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Sequence

from tsa_mt.export.companions import find_subwords
from tsa_mt.files import read_json, read_object
from tsa_mt.translate.subwords import find_codec
from tsa_mt.translate.translator import Decoding, Scored, Translator

END, BEGIN, PAD = "</s>", "<s>", "<blank>"
POSITIONS = 1024
"""What fairseq's models read at most unless they are told otherwise."""


class CTranslate2Translator(Translator):
    """A CTranslate2 model.

    Args:
        folder: The model.
        codec: The subword model.
        decoding: How to search.
        limit: Most pieces of a source.
        symbols: The target vocabulary.
        threads: Batches that are decoded at the same time, each by one thread; threads that shared
            a batch would mostly wait, the steps of a search being small.
    """

    def __init__(self, folder, codec, decoding: Decoding, limit: int, symbols, threads: int):
        import ctranslate2

        super().__init__(codec, decoding, limit)
        self.forbidden = [[PAD]] if PAD in symbols else []
        self.threads = threads
        self.model = ctranslate2.Translator(
            str(folder), device="cpu", inter_threads=threads, intra_threads=1
        )
        self.compute_type = self.model.compute_type  # not the stored one where the CPU lacks it
        self.beam = min(decoding.beam, len(symbols) - 1)

    def decode_batches(
        self, batches: Iterable[Sequence[Sequence[str]]]
    ) -> Iterator[List[List[Scored]]]:
        """See `Translator.decode_batches`."""
        with ThreadPoolExecutor(self.threads) as pool:
            yield from pool.map(self.decode_batch, batches)

    def decode_batch(self, sentences: Sequence[Sequence[str]]) -> List[List[Scored]]:
        """See `Translator.decode_batch`."""
        results = self.model.translate_batch(
            [list(pieces) for pieces in sentences],
            beam_size=self.beam,
            num_hypotheses=self.beam,
            length_penalty=self.decoding.lenpen,
            max_decoding_length=self.decoding.max_length,
            min_decoding_length=self.decoding.min_length,
            suppress_sequences=self.forbidden,
            max_input_length=0,
            return_scores=True,
            return_end_token=True,
        )
        found = [list(zip(r.hypotheses, r.scores, strict=True)) for r in results]
        self._close(sentences, found)
        return [[_without_symbols(*pair) for pair in pairs] for pairs in found]

    def _close(self, sentences: Sequence[Sequence[str]], found: List[List[Scored]]) -> None:
        """Ends the hypotheses that were cut off, with the end symbol's probability in the score."""
        open_ = [
            (row, column)
            for row, pairs in enumerate(found)
            for column, (tokens, _) in enumerate(pairs)
            if tokens[-1:] != [END]
        ]
        if not open_:
            return
        ends = self._end_scores(
            [sentences[row] for row, _ in open_], [found[r][c][0] for r, c in open_]
        )
        penalty = self.decoding.lenpen
        for (row, column), end in zip(open_, ends, strict=True):
            tokens, score = found[row][column]
            total = score * len(tokens) ** penalty + end
            found[row][column] = ([*tokens, END], total / (len(tokens) + 1) ** penalty)
        for row in {row for row, _ in open_}:
            found[row].sort(key=lambda pair: -pair[1])

    def _end_scores(self, sources, targets) -> List[float]:
        """Log probability of the end symbol after each target."""
        scores = self.model.score_batch(
            [list(pieces) for pieces in sources],
            targets,
            max_batch_size=self.decoding.batch_tokens,
            batch_type="tokens",
            max_input_length=0,
        )
        return [score.log_probs[-1] for score in scores]


def _without_symbols(tokens: List[str], score: float) -> Scored:
    return [token for token in tokens if token not in (END, BEGIN, PAD)], score


def load(
    path: Path, branch: int, data: Optional[Path], decoding: Decoding, threads: Optional[int]
) -> CTranslate2Translator:
    """Loads a folder that ``tsa-mt export --to ctranslate2`` wrote; see `load_translator`."""
    if branch != 0:
        raise ValueError(
            f"branch {branch} does not exist: {path} is an export and holds a single branch; "
            f"translate with the checkpoint, or export that branch"
        )
    _require_package()
    config = read_object(path / "config.json")
    place = data or path
    languages = (config.get("source_lang"), config.get("target_lang"))
    source, target = (_symbols(path, side) for side in ("source", "target"))
    subwords = find_subwords(place, languages, source, above=data is not None)
    codec = find_codec(subwords, languages, source, place)
    limit = config.get("max_source_positions", POSITIONS) - 1
    threads = threads or _default_threads()
    return CTranslate2Translator(path, codec, decoding, limit, target, threads)


def _default_threads() -> int:
    """As many as PyTorch would take, as near as one can tell without it."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def _require_package() -> None:
    try:
        import ctranslate2  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "ctranslate2 is not installed; install it with: pip install 'tsa-mt[deploy]'"
        ) from error


def _symbols(path: Path, side: str) -> List[str]:
    """The vocabulary of one side."""
    for name in (f"{side}_vocabulary.json", "shared_vocabulary.json"):
        if (path / name).is_file():
            return read_json(path / name)
    raise FileNotFoundError(f"{path / f'{side}_vocabulary.json'} does not exist; export it again")
