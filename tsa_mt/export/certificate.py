"""``certificate.json``: what an export changed, measured on sentences with known translations.

The sentences are decoded twice with the same search: by the checkpoint through fairseq, and by the
finished export through the library it was made for. The certificate has how many translations are
the same, piece by piece, the scores of both with their signatures, sizes, speeds, and the checksum
of every file, so that it can be told later what it is about.
"""

import datetime
import os
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import torch

from tsa_mt.evaluate.run_facts import hardware, versions
from tsa_mt.evaluate.score import Score, score
from tsa_mt.export.checkpoint import SourceFile
from tsa_mt.export.companions import Companions
from tsa_mt.export.fairseq import write_fairseq
from tsa_mt.export.folder import README, digest
from tsa_mt.export.formats import FORMATS
from tsa_mt.export.leader import PlainTransformer
from tsa_mt.export.reference import Reference
from tsa_mt.files import PathLike, write_json
from tsa_mt.translate import Translator, load_translator
from tsa_mt.translate.translator import Decoding

CERTIFICATE = "certificate.json"
FORMAT = 1
PACKAGES = ("ctranslate2", "safetensors", "transformers", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Export:
    """One export to certify.

    Attributes:
        plain: The model.
        companions: The files that belong to it.
        source: The checkpoint, or folder of an export, that it was made from.
        branch: Number of the leaf, or another name of what was taken out of the checkpoint.
        to: Name of the format.
        quantization: Type of the stored weights; ``None`` is that of the checkpoint.
        data: Folder with the dictionaries that was named instead of the checkpoint's own.
    """

    plain: PlainTransformer
    companions: Companions
    source: PathLike
    branch: Union[int, str]
    to: str
    quantization: Optional[str]
    data: Optional[PathLike] = None

    @property
    def data_folders(self) -> List[Path]:
        """Where its data may lie: beside the dictionaries, and where the checkpoint says."""
        recorded = Path(str(self.plain.task.get("data") or ".").split(os.pathsep)[0])
        folders = [self.companions.dictionaries[0].parent]
        return folders if recorded == Path(".") or recorded in folders else [*folders, recorded]

    def fill(self, folder: Path, quantization: Optional[str]) -> None:
        """Writes the model and what belongs to it in this format."""
        choice = {} if quantization is None else {"quantization": quantization}
        FORMATS[self.to].fill(self.plain, self.companions, folder, **choice)


class Decoded(NamedTuple):
    """What a model said.

    Attributes:
        tokens: Pieces of the best translation of every sentence.
        scores: BLEU and chrF of their text.
        speed: Sentences per second.
        compute_type: Type of number that the library computed with, which need not be the stored
            one: CTranslate2 converts what a processor is not good at.
    """

    tokens: List[Tuple[str, ...]]
    scores: List[Score]
    speed: float
    compute_type: str

    @property
    def bleu(self) -> float:
        """Its BLEU."""
        return self.scores[0].score


class Alternative(NamedTuple):
    """Another quantization that would pass.

    Attributes:
        drop: BLEU that it loses.
        bytes: Size of the model.
        compute_type: Type of number that it was computed with.
    """

    drop: float
    bytes: int
    compute_type: str


def decode_before(export: Export, reference: Reference) -> Decoded:
    """The reference as the checkpoint translates it, through fairseq.

    What is no leaf of its own in the checkpoint (the bridge on its teacher) is decoded as a stock
    model.
    """
    options: Dict[str, Any] = {"threads": torch.get_num_threads()}
    if isinstance(export.branch, int):
        options.update(branch=export.branch, data=export.data)
        translator = load_translator(export.source, **options)
        return _decode(translator, reference)
    with TemporaryDirectory() as place:
        folder = write_fairseq(export.plain, export.companions, Path(place) / "before")
        return _decode(load_translator(folder, **options), reference)


def decode_after(folder: Path, reference: Reference) -> Decoded:
    """The reference as an export translates it."""
    return _decode(load_translator(folder, threads=torch.get_num_threads()), reference)


def _decode(translator: Translator, reference: Reference) -> Decoded:
    translator.translate_tokens(reference.sources[:1])  # the first call may set things up
    start = time.perf_counter()
    best = [found[0] for found in translator.translate_tokens(reference.sources)]
    seconds = time.perf_counter() - start
    scores = score([hypothesis.text for hypothesis in best], [reference.targets])
    tokens = [hypothesis.tokens for hypothesis in best]
    return Decoded(tokens, scores, len(best) / seconds, translator.compute_type)


def certify(
    export: Export,
    folder: Path,
    reference: Reference,
    before: Decoded,
    max_bleu_drop: Optional[float] = None,
) -> dict:
    """Decodes with an export and says how it compares with the checkpoint.

    Args:
        export: What was exported.
        folder: The folder it was written into, complete but for README and certificate.
        reference: The sentences.
        before: What the checkpoint made of them.
        max_bleu_drop: Most BLEU that may be lost; ``None`` allows everything.

    Returns:
        The certificate; ``["export"]["files"]`` is empty until `write_certificate` fills it.
    """
    after = decode_after(folder, reference)
    identical = sum(one == two for one, two in zip(before.tokens, after.tokens, strict=True))
    drop = before.bleu - after.bleu
    file = export.plain.file
    return {
        **header(file, export.branch, export.to, export.quantization),
        "reference": {
            "source": reference.name,
            "sentences": len(reference),
            "sha256": reference.sha256,
            **reference.origin,
        },
        "decoding": {**asdict(Decoding()), "threads": torch.get_num_threads()},
        "identical": identical,
        "different": len(reference) - identical,
        "before": _side(before, file.bytes if file else None),
        "after": _side(after, sum(size for name, size, _ in digest(folder) if name != README)),
        "bleu_drop": drop,
        "max_bleu_drop": max_bleu_drop,
        "passed": max_bleu_drop is None or drop <= max_bleu_drop,
        **machine(),
    }


def _side(decoded: Decoded, size: Optional[int]) -> dict:
    scores = [{k: v for k, v in asdict(s).items() if k != "details"} for s in decoded.scores]
    return {
        "scores": scores,
        "bytes": size,
        "sentences_per_second": round(decoded.speed, 2),
        "compute_type": decoded.compute_type,
    }


def header(
    file: Optional[SourceFile], branch: Union[int, str], to: str, quantization: Optional[str]
) -> dict:
    """What every certificate begins with: when, from what, and into what."""
    return {
        "format": FORMAT,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "checkpoint": {
            "path": str(file.path) if file else None,
            "sha256": file.sha256 if file else None,
            "branch": branch,
        },
        "export": {"format": to, "quantization": quantization, "files": {}},
    }


def machine() -> dict:
    """What every certificate ends with: the computer and the software."""
    found = versions()
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"hardware": hardware(on_gpu=False, workers=1), "versions": found}


def write_certificate(certificate: dict, folder: Path) -> None:
    """Adds the checksums of all files to a certificate and writes it beside them."""
    files = {name: {"bytes": size, "sha256": sha} for name, size, sha in digest(folder)}
    certificate["export"]["files"] = {n: file for n, file in files.items() if n != CERTIFICATE}
    write_json(folder / CERTIFICATE, certificate)


def summary(certificate: dict) -> str:
    """What a certificate found, in one sentence."""
    before, after = certificate["before"], certificate["after"]
    scores = ", ".join(
        f"{one['name']} {one['score']:.2f} before and {two['score']:.2f} after"
        for one, two in zip(before["scores"], after["scores"], strict=True)
    )
    return (
        f"{certificate['identical']:,} of {certificate['reference']['sentences']:,} translations "
        f"are the checkpoint's, piece by piece; {scores}; "
        f"{before['sentences_per_second']:,.1f} and {after['sentences_per_second']:,.1f} "
        f"sentences per second"
    )


def passing(
    export: Export, reference: Reference, before: Decoded, max_bleu_drop: float
) -> Dict[str, Alternative]:
    """The other quantizations of a format that lose no more BLEU than they may.

    Returns:
        What they are like, by name; the smallest model first.
    """
    found: Dict[str, Alternative] = {}
    for quantization in FORMATS[export.to].quantizations:
        if quantization == export.quantization:
            continue
        with TemporaryDirectory() as place:
            folder = Path(place)
            export.fill(folder, quantization)
            after = decode_after(folder, reference)
            drop = before.bleu - after.bleu
            if drop <= max_bleu_drop:
                size = (folder / FORMATS[export.to].file).stat().st_size
                found[quantization] = Alternative(drop, size, after.compute_type)
    return dict(sorted(found.items(), key=lambda item: item[1].bytes))


def refusal(certificate: dict, others: Dict[str, Alternative]) -> str:
    """Why an export is refused, and what would pass."""
    before, after = (certificate[side]["scores"][0]["score"] for side in ("before", "after"))
    kind = certificate["export"]["quantization"] or certificate["export"]["format"]
    named = [
        f"{name} ({-other.drop:+.2f} BLEU, {other.bytes:,} bytes, computed here in "
        f"{other.compute_type})"
        for name, other in others.items()
    ]
    advice = (
        f"these quantizations would pass: {', '.join(named)}"
        if named
        else "no other quantization of this format would pass"
    )
    return (
        f"{kind} loses {certificate['bleu_drop']:.2f} BLEU ({before:.2f} to {after:.2f} on "
        f"{certificate['reference']['source']}), more than --max-bleu-drop "
        f"{certificate['max_bleu_drop']:g} allows; nothing was written; {advice}"
    )
