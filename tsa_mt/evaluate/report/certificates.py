"""Certificates of exports that lie in a run's folder: what was exported, and did it change?"""

from pathlib import Path
from typing import Any, Dict, List, Tuple

from tsa_mt.evaluate.report.markup import Html, element, join, missing, table
from tsa_mt.evaluate.report.wording import memory, number
from tsa_mt.files import read_object

CERTIFICATE = "certificate.json"


def read_certificates(folder: Path) -> Tuple[List[Tuple[Path, Dict[str, Any]]], List[str]]:
    """Certificates below a folder, and a sentence about each that cannot be read."""
    found, damaged = [], []
    for path in sorted(folder.rglob(CERTIFICATE)):
        try:
            found.append((path.relative_to(folder), read_object(path)))
        except (OSError, ValueError) as error:
            damaged.append(f"{error}.")
    return found, damaged


def certificates_section(folder: Path) -> Html:
    """Every certificate as a card; a sentence where there is none."""
    found, damaged = read_certificates(folder)
    if not found and not damaged:
        return missing(
            "No export of this run lies in its folder: tsa-mt export writes a certificate."
        )
    return join([_card(path, content) for path, content in found], map_missing(damaged))


def map_missing(sentences: List[str]) -> List[Html]:
    """A paragraph for every sentence."""
    return [missing(sentence) for sentence in sentences]


def _card(path: Path, content: Dict[str, Any]) -> Html:
    export, checkpoint = _part(content, "export"), _part(content, "checkpoint")
    title = f"{export.get('format', 'unknown format')}"
    if export.get("quantization"):
        title += f", {export['quantization']}"
    passed = content.get("passed")
    return element(
        "article",
        element("h4", title, " ", _badge(passed)),
        element("p", _verdict(content)),
        table(["", "before", "after"], _rows(content), f"{path.parent}: before and after export"),
        element("p", _small_print(path, checkpoint, content), class_="hint"),
        class_="card",
    )


def _badge(passed: object) -> Html:
    if passed is True:
        return element("span", "✓ passed", class_="badge good")
    if passed is False:
        return element("span", "✗ failed", class_="badge bad")
    return element("span", "no verdict", class_="badge")


def _part(content: Dict[str, Any], name: str) -> Dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _verdict(content: Dict[str, Any]) -> str:
    identical, different = content.get("identical"), content.get("different")
    if not isinstance(identical, int) or not isinstance(different, int):
        return "How many translations are identical is not recorded."
    total = identical + different
    share = f"{identical:,} of {total:,}" if different else f"All {total:,}"
    return f"{share} reference sentences are translated token for token as before."


def _rows(content: Dict[str, Any]) -> List[List[object]]:
    before, after = _part(content, "before"), _part(content, "after")
    scores = [_scores(side) for side in (before, after)]
    rows: List[List[object]] = [
        [name, *(number(side.get(name)) for side in scores)] for name in {**scores[0], **scores[1]}
    ]
    rows.append(["size", memory(before.get("bytes")), memory(after.get("bytes"))])
    speed = "sentences_per_second"
    rows.append(["sentences per second", number(before.get(speed)), number(after.get(speed))])
    return rows


def _scores(side: Dict[str, Any]) -> Dict[str, Any]:
    scores = side.get("scores")
    entries = scores if isinstance(scores, list) else []
    return {str(e.get("name")): e.get("score") for e in entries if isinstance(e, dict)}


def _small_print(path: Path, checkpoint: Dict[str, Any], content: Dict[str, Any]) -> str:
    """Where it comes from and under which conditions it holds."""
    decoding = _part(content, "decoding")
    settings = ", ".join(f"{name} {value}" for name, value in decoding.items())
    signature = next(
        (
            f"{entry.get('name')} {entry['signature']}"
            for entry in _part(content, "after").get("scores") or []
            if isinstance(entry, dict) and entry.get("signature")
        ),
        None,
    )
    reference = _part(content, "reference")
    parts = [
        str(path),
        f"from {checkpoint.get('path')}, leaf {checkpoint.get('branch')}" if checkpoint else None,
        f"reference {reference.get('source')}" if reference else None,
        f"decoding {settings}" if settings else None,
        signature,
        f"written {content.get('created')}" if content.get("created") else None,
    ]
    return "; ".join(part for part in parts if part) + "."
