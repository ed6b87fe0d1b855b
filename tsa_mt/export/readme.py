"""The README of an export: what the model is, and how to translate with it from Python."""

from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from tsa_mt.export.companions import Companions
from tsa_mt.export.folder import README
from tsa_mt.export.leader import PlainTransformer
from tsa_mt.files import write_text


class Usage(NamedTuple):
    """How one format is used.

    Attributes:
        title: The kind of model, as in "en to de, a ...".
        needs: The packages it takes, in words.
        code: At most five lines of Python that translate "A sentence to translate.", run from
            inside the folder.
        more: Further paragraphs, Markdown.
    """

    title: str
    needs: str
    code: Tuple[str, ...]
    more: str = ""


def write_readme(
    folder: Path,
    plain: PlainTransformer,
    companions: Companions,
    usage: Usage,
    quantization: Optional[str] = None,
    verdict: str = "",
) -> None:
    """Writes the README of an export.

    Args:
        folder: The export.
        plain: The model.
        companions: The files that belong to it.
        usage: How its format is used.
        quantization: Type of the stored weights; ``None`` is that of the checkpoint.
        verdict: What the certificate found, a sentence.
    """
    source, target = companions.languages
    python = "\n".join(usage.code)
    parts = [
        f"# {source} to {target}, {usage.title}",
        _origin(plain, quantization),
        f"To translate from Python, inside this folder (it needs {usage.needs}):",
        f"```python\n{python}\n```",
        usage.more,
        _subwords(companions),
        verdict,
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    write_text(folder / README, text)


def _origin(plain: PlainTransformer, quantization: Optional[str]) -> str:
    types = {str(t.dtype).removeprefix("torch.") for n, t in plain.weights.items() if t.dim() > 1}
    lines = [
        f"- made from {plain.origin} after {plain.updates:,} updates",
        f"- weights stored as {quantization or ' and '.join(sorted(types)) + ', as trained'}",
    ]
    if plain.file is not None:
        lines.append(f"- checkpoint `{plain.file.path.name}`, sha256 `{plain.file.sha256}`")
    return "\n".join(lines)


def _subwords(companions: Companions) -> str:
    if companions.subwords:
        names = " and ".join(f"`{name}`" for name in companions.subwords)
        return f"The model reads and writes subword pieces, made by the subword model ({names})."
    return (
        "No subword model was found with the training data: the model reads and writes its words "
        "or pieces as they are, separated by spaces."
    )
