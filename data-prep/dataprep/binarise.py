"""fairseq's dictionaries and indexed data sets, written by fairseq's own classes.

The result is what ``fairseq-preprocess`` writes from the encoded text, byte for byte (for
SentencePiece: with ``--srcdict`` and ``--tgtdict``, because here a dictionary lists every piece of
the model, the ones that the training text lacks included; otherwise bytes of rare characters would
be unknown words). fairseq is imported in worker processes only: that takes seconds.
"""

import shutil
from collections import Counter
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from dataprep.files import BLOCK, read_json, read_lines, whole, write_json
from dataprep.subword import shared_types

# What workers import before they are forked.
PRELOAD = ("torch", "fairseq.data", "fairseq.data.indexed_dataset")

# Names that SentencePiece gives to what a fairseq dictionary has anyway.
SPECIAL = {"<unk>": "<unk>", "<s>": "<s>", "</s>": "</s>", "<pad>": "<pad>"}


def count_types(folder: Path, names: List[str], codes: List[str], shared: List[str]) -> Counter:
    """How often each type occurs in some parts.

    Args:
        folder: Encoded parts.
        names: Parts.
        codes: Languages to count together.
        shared: Types that all parts share and that are counted even if they do not occur, or an
            empty list where each part has its own.
    """
    total = np.zeros(len(shared), dtype=np.int64)
    counts: Counter = Counter()
    for code, name in product(codes, names):
        ids = np.fromfile(folder / f"{name}.{code}.ids", dtype=np.int32)
        if shared:
            total += np.bincount(ids, minlength=len(shared))
        else:
            own = _own_types(folder, name, code)
            found = np.bincount(ids, minlength=len(own)).tolist()
            counts.update({t: n for t, n in zip(own, found, strict=True) if n})
    return Counter(dict(zip(shared, total.tolist(), strict=True))) if shared else counts


def _own_types(folder: Path, name: str, code: str) -> List[str]:
    path = folder / f"{name}.{code}.types"
    return read_lines(path) if path.exists() else []


def write_dictionary(
    folder: Path, names: List[str], codes: List[str], model: Path, paths: List[Path]
) -> Dict[str, Any]:
    """Count subwords in the training text and write a dictionary.

    Args:
        folder: Encoded parts.
        names: Parts.
        codes: Languages to count together.
        model: Subword model. All pieces of a SentencePiece model are listed, whatever their count;
            for subword-nmt what occurs is.
        paths: Where to write it.

    Returns:
        ``types`` (size, special symbols included) and ``tokens``.
    """
    from fairseq.data import Dictionary

    counts = count_types(folder, names, codes, shared_types(model))
    dictionary = Dictionary()
    for word, count in counts.items():
        if word not in SPECIAL:
            dictionary.add_symbol(word, n=count)
    dictionary.finalize(threshold=0, nwords=-1, padding_factor=8)
    for path in paths:
        with whole(path) as temporary:
            dictionary.save(str(temporary))
    return {"types": len(dictionary), "tokens": sum(counts.values())}


def binarise_part(
    encoded: Path,
    folder: Path,
    name: str,
    code: str,
    dictionary: Path,
    model: Path,
    start: int,
    shards: int,
) -> Dict[str, Any]:
    """Turn an encoded part into fairseq data sets, one per shard.

    Args:
        encoded: Folder of the encoded part.
        folder: Where ``{name}.{language}.{shard}.{bin,idx}`` go.
        name: Part.
        code: Language.
        dictionary: fairseq dictionary.
        model: Subword model.
        start: Number of pairs before this part: pair n goes to shard n modulo `shards`.
        shards: Number of shards.

    Returns:
        ``tokens`` (ends of sentence included, as fairseq counts) and ``unknown``.
    """
    done = folder / f"{name}.{code}.json"
    if (record := read_json(done)) is not None:
        return record
    words = _dictionary(dictionary)
    types = shared_types(model) or _own_types(encoded, name, code)
    table = np.array([words.index(word) for word in types], dtype=np.int32)
    ids = np.fromfile(encoded / f"{name}.{code}.ids", dtype=np.int32)
    lengths = np.fromfile(encoded / f"{name}.{code}.lengths", dtype=np.int32)
    numbers = table[ids] if len(ids) else ids
    rows = _with_ends(numbers, lengths, words.eos())
    for shard in range(shards):
        dealt = rows[(shard - start) % shards :: shards]
        _write(folder / f"{name}.{code}.{shard}", dealt, len(words))
    record = {
        "tokens": len(numbers) + len(rows),
        "unknown": int((numbers == words.unk()).sum()),
    }
    write_json(done, record)
    return record


_dictionaries: Dict[Tuple[str, int], Any] = {}


def _dictionary(path: Path) -> Any:
    from fairseq.data import Dictionary

    name = (str(path), path.stat().st_mtime_ns)
    if name not in _dictionaries:
        _dictionaries[name] = Dictionary.load(str(path))
    return _dictionaries[name]


def _with_ends(numbers: np.ndarray, lengths: np.ndarray, end: int) -> Sequence[Any]:
    """Split a flat array into one tensor per sentence, each closed by an end-of-sentence number."""
    import torch

    flat = np.insert(numbers, np.cumsum(lengths), end)
    return torch.from_numpy(flat).split((lengths + 1).tolist())


def _write(prefix: Path, rows: Sequence[Any], vocabulary: int) -> None:
    """Write one data set; the index comes last."""
    from fairseq.data import indexed_dataset

    with whole(f"{prefix}.idx") as index, whole(f"{prefix}.bin") as data:
        builder = indexed_dataset.make_builder(str(data), "mmap", vocab_size=vocabulary)
        for row in rows:
            builder.add_item(row)
        builder.finalize(str(index))


def merge(prefixes: List[Path], target: Path) -> None:
    """Join the data sets of parts, in order, into the one that training reads.

    fairseq's builder can do that too, but holds 65 bytes a sentence in Python lists. Here its index
    writer gets arrays: 12 bytes a sentence, and as many for a moment.
    """
    from fairseq.data.indexed_dataset import MMapIndexedDataset

    indexes = [MMapIndexedDataset.Index(f"{prefix}.idx") for prefix in prefixes]
    sizes = np.concatenate([index.sizes for index in indexes])
    with whole(f"{target}.idx") as index_path, whole(f"{target}.bin") as data_path:
        with open(data_path, "wb") as data:
            for prefix in prefixes:
                with open(f"{prefix}.bin", "rb") as part:
                    shutil.copyfileobj(part, data)
        with MMapIndexedDataset.Index.writer(str(index_path), indexes[0].dtype) as index:
            index._get_pointers = partial(_pointers, width=indexes[0].dtype().itemsize)
            index.write(sizes)


def _pointers(sizes: np.ndarray, width: int) -> np.ndarray:
    """Where each sentence begins, in bytes."""
    pointers = np.zeros(len(sizes), dtype=np.int64)
    np.cumsum(sizes[:-1], dtype=np.int64, out=pointers[1:])
    pointers *= width
    return pointers


def dictionary_size(path: Path) -> int:
    """Size of a dictionary file, special symbols included."""
    with open(path, "rb") as stream:
        lines = sum(block.count(b"\n") for block in iter(lambda: stream.read(BLOCK), b""))
    return lines + 4


def copy(source: Path, target: Path) -> None:
    """Copy a small file so that it is whole or absent."""
    with whole(target) as temporary:
        shutil.copyfile(source, temporary)
