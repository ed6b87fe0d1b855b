"""What is in a prepared data set: `manifest.json` for programs, `report.md` for people.

Times and absolute paths stay out, so that the same recipe on the same files gives the same bytes.
"""

import importlib.metadata
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

from dataprep.files import digest, read_lines

PACKAGES = ("fairseq-fixed", "fairseq", "sentencepiece", "sacremoses", "subword-nmt", "numpy")
SAMPLES = 5


def versions(*names: str) -> Dict[str, str]:
    """Versions of some packages; of all that the result may depend on, if none is named."""
    found = {}
    for name in names or PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def add_up(records: Iterable[Dict[str, Any]]) -> Dict[str, Any]:
    """Sum up ``in``, ``out`` and ``dropped`` over parts."""
    total: Dict[str, Any] = {"in": 0, "out": 0}
    dropped: Counter = Counter()
    for record in records:
        total["in"] += record["in"]
        total["out"] += record["out"]
        dropped.update(record["dropped"])
    return {**total, "dropped": dict(sorted(dropped.items()))}


def length_statistics(histograms: Iterable[List[int]]) -> Dict[str, Any]:
    """Mean, percentiles and maximum of lengths, from histograms."""
    counts: Counter = Counter()
    for histogram in histograms:
        counts.update({length: n for length, n in enumerate(histogram) if n})
    total = sum(counts.values())
    if not total:
        return {"mean": 0, "p50": 0, "p95": 0, "max": 0}
    mean = sum(length * n for length, n in counts.items()) / total
    return {
        "mean": round(mean, 2),
        "p50": _percentile(counts, total, 0.50),
        "p95": _percentile(counts, total, 0.95),
        "max": max(counts),
    }


def _percentile(counts: Counter, total: int, share: float) -> int:
    passed = 0
    for length in sorted(counts):
        passed += counts[length]
        if passed >= share * total:
            break
    return length


def samples(paths: List[Path], spans: List[List[Any]]) -> List[Tuple[str, ...]]:
    """Five pairs from all over a split."""
    total = sum(span[0] for span in spans)
    wanted = sorted({i * total // SAMPLES for i in range(SAMPLES)} if total else ())
    found, start = [], 0
    for lines, *ends in spans:
        here = [number - start for number in wanted if start <= number < start + lines]
        if here:
            sides = [read_lines(path, *span) for path, span in zip(paths, ends, strict=True)]
            found.extend(tuple(side[number] for side in sides) for number in here)
        start += lines
    return found


def outputs(root: Path, names: Iterable[str]) -> Dict[str, Dict[str, Any]]:
    """Size and checksum of the files that make up the result."""
    return {
        name: {"bytes": (root / name).stat().st_size, "sha256": digest(root / name)}
        for name in sorted(names)
    }


def report(manifest: Dict[str, Any]) -> str:
    """The manifest as a page of Markdown."""
    m = manifest
    lines = [
        f"# {m['recipe']}: {m['title']}",
        "",
        f"- {m['source']} to {m['target']}, preparation `{m['preparation']}` ({m['reproduces']})",
        f"- licence: {m['licence']}",
        f"- {'complete' if m['complete'] else 'stopped after the text: no subword vocabulary'}",
        "",
        "| split | step | in | out | left out |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for name, split in m["splits"].items():
        for step in split["steps"]:
            dropped = ", ".join(f"{rule} {n:,}" for rule, n in step.get("dropped", {}).items())
            lines.append(
                f"| {name} | {step['step']} | {step['in']:,} | {step['out']:,} | {dropped} |"
            )
    lines += [
        "",
        *_notes(m),
        *_unexpected(m),
        *_subword(m),
        *_statistics(m),
        *_files(m),
        *_samples(m),
    ]
    if m["complete"]:
        lines += ["## Train", "", "```sh", m["train"], "```", ""]
    return "\n".join(lines)


def _notes(manifest: Dict[str, Any]) -> List[str]:
    return [*(f"- note: {note}" for note in manifest["notes"]), ""] if manifest["notes"] else []


def _subword(manifest: Dict[str, Any]) -> List[str]:
    """How the subword model changes text before it cuts it."""
    rule = manifest["subword"].get("normalisation")
    if rule is None:
        return []
    what = (
        "pieces spell the text as it is"
        if rule == "identity"
        else "pieces spell a normalised text (for instance m2 for m²), as SentencePiece's rule says"
    )
    return [f"- subword model: normalisation `{rule}`: {what}", ""]


def _unexpected(manifest: Dict[str, Any]) -> List[str]:
    lines = []
    for name, split in manifest["splits"].items():
        expected = split.get("expected_lines")
        if expected is not None:
            verdict = "as published" if expected == split["lines"] else f"published: {expected:,}"
            lines.append(f"- {name}: {split['lines']:,} lines, {verdict}")
    return [*lines, ""] if lines else []


def _statistics(manifest: Dict[str, Any]) -> List[str]:
    if not manifest["complete"]:
        return []
    lines = [
        "| split | language | tokens | unknown | mean length | 95 % | longest |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, split in manifest["splits"].items():
        for code, s in split["statistics"].items():
            lines.append(
                f"| {name} | {code} | {s['tokens']:,} | {s['unknown']:,} | {s['mean']} "
                f"| {s['p95']} | {s['max']} |"
            )
    return [*lines, "", "Tokens count one end of sentence per line; lengths do not.", ""]


def _files(manifest: Dict[str, Any]) -> List[str]:
    lines = ["| file | bytes | sha256 | checked by |", "| --- | ---: | --- | --- |"]
    for name, f in manifest["files"].items():
        lines.append(f"| {name} | {f['bytes']:,} | `{f['sha256'][:16]}` | {f['checked']} |")
    return [*lines, ""]


def _samples(manifest: Dict[str, Any]) -> List[str]:
    lines = ["## Sample pairs", ""]
    for sample in manifest["samples"]:
        lines += [f"- {sample['source']}", f"  - {sample['target']}"]
    return [*lines, ""]
