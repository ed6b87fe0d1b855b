"""Which reader loads what: a checkpoint file, or an export folder told by the files in it.

A new export format adds a module with ``load(path, branch, data, decoding, threads)`` that returns
a `Translator`, and its row to `READERS`.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from tsa_mt.files import PathLike, read_object
from tsa_mt.translate.tokenise import Moses, Tokenised
from tsa_mt.translate.translator import Decoding, Translator


@dataclass(frozen=True)
class Reader:
    """One format.

    Attributes:
        name: What it is called in messages.
        sign: By what a path of this format is known, in words.
        recognises: Whether a path is of this format.
        module: The module with ``load``, imported when it is needed.
        fairseq: Whether that module uses fairseq, with the plugin registered.
    """

    name: str
    sign: str
    recognises: Callable[[Path], bool]
    module: str
    fairseq: bool = True


def _holds(*names: str) -> Callable[[Path], bool]:
    return lambda path: all((path / name).is_file() for name in names)


def _config_says(key: str, value: str) -> Callable[[Path], bool]:
    def says(path: Path) -> bool:
        try:
            return read_object(path / "config.json").get(key) == value
        except (OSError, ValueError):
            return False

    return says


# The first that recognises a path reads it, so a folder with more signs stands before one with less
READERS = (
    Reader("a fairseq checkpoint", "a .pt file", Path.is_file, "tsa_mt.translate.fairseq"),
    Reader("a fairseq export", "model.pt", _holds("model.pt"), "tsa_mt.translate.fairseq"),
    Reader(
        "a CTranslate2 model",
        "model.bin and config.json",
        _holds("model.bin", "config.json"),
        "tsa_mt.translate.ctranslate2",
        fairseq=False,
    ),
    Reader(
        "a safetensors export",
        "model.safetensors and config.json",
        _config_says("format", "tsa-mt transformer"),
        "tsa_mt.translate.safetensors",
    ),
    Reader("a TorchScript export", "model.ts", _holds("model.ts"), "tsa_mt.translate.torchscript"),
    Reader(
        "a Hugging Face export",
        "model.safetensors and a Marian config.json",
        _config_says("model_type", "marian"),
        "tsa_mt.translate.huggingface",
    ),
)


def find_reader(path: PathLike) -> Reader:
    """The reader of a path.

    Raises:
        FileNotFoundError: There is nothing at ``path``.
        ValueError: It is a folder of no known format.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"model {path} does not exist")
    for reader in READERS:
        if reader.recognises(path):
            return reader
    checkpoints = sorted(file.name for file in path.glob("*.pt"))
    known = "; ".join(f"{reader.name} ({reader.sign})" for reader in READERS)
    raise ValueError(
        f"{path} is no model that can translate: {known}"
        + (f"; did you mean {path / checkpoints[-1]}?" if checkpoints else "")
    )


def load_translator(
    path: PathLike,
    *,
    branch: int = 0,
    beam: int = 5,
    lenpen: float = 1.0,
    threads: Optional[int] = None,
    batch_tokens: int = 4000,
    max_length: int = 200,
    min_length: int = 1,
    data: Optional[PathLike] = None,
    moses: bool = False,
    split_hyphens: bool = False,
    lowercase: bool = False,
) -> Translator:
    """Loads a model to translate with on the CPU.

    The defaults decode as ``fairseq-generate --beam 5`` does, in every format.

    Args:
        path: A checkpoint of a tree or a stock Transformer, or the folder of an export.
        branch: Leaf of a tree: 0 is the leader, -1 the ensemble of all leaves. An export has 0
            only.
        beam: Beam size.
        lenpen: Length penalty.
        threads: Threads to compute with, for the whole process; unset, PyTorch's own choice.
        batch_tokens: Most source tokens of a batch, padding and end symbols included.
        max_length: Most pieces of a translation.
        min_length: Fewest pieces of a translation.
        data: Folder with the dictionaries and the subword model, where it is not the one that the
            model names or is.
        moses: Whether raw text is tokenised as Moses does, and translations are detokenised: for
            a model whose training text was tokenised before it was cut into subwords.
        split_hyphens: With ``moses``, whether ``a-b`` becomes ``a @-@ b``.
        lowercase: Whether raw text is lower-cased.

    Raises:
        FileNotFoundError: The model or a file that belongs to it is missing.
        ValueError: The model cannot be read or has no such branch, or an option is out of range.
    """
    if split_hyphens and not moses:
        raise ValueError("split_hyphens is a way of Moses to tokenise; set moses as well")
    decoding = Decoding(beam, lenpen, batch_tokens, max_length, min_length)
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}; it must be 1 or more")
    reader = find_reader(path)
    if reader.fairseq:
        from tsa_mt import plugin

        plugin.register()
    module = importlib.import_module(reader.module)
    folder = None if data is None else Path(data)
    translator = module.load(Path(path), branch, folder, decoding, threads)
    if moses or lowercase:
        tokenise = Moses(translator.codec.languages, split_hyphens) if moses else None
        translator.codec = Tokenised(translator.codec, tokenise, lowercase)
    return translator
