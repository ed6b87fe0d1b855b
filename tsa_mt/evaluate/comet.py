"""COMET's figures, computed by ``comet-score`` in an environment of its own, beside sacreBLEU's.

COMET (Rei et al. 2020, https://aclanthology.org/2020.emnlp-main.213) wants older versions of NumPy
and protobuf than this project, so it is not imported: its JSON file is. The file holds the
translations, too, and is refused unless they are those that are being scored.
"""

import math
from pathlib import Path
from typing import Any, Dict, List, Sequence

from tsa_mt.evaluate.score import Score
from tsa_mt.files import PathLike, read_json


def read_comet(path: PathLike, hypotheses: Sequence[str], model: str) -> Score:
    """The system score of ``comet-score --to_json``, as a mean over sentences.

    Args:
        path: The JSON file.
        hypotheses: The translations that it must be about.
        model: The COMET model that was used, which the file does not tell.

    Returns:
        The score on a scale to 100.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, or holds no scores of these translations.
    """
    systems = _read_systems(Path(path))
    wanted = [line.strip() for line in hypotheses]
    for entries in systems.values():
        if [str(entry.get("mt", "")).strip() for entry in entries] == wanted:
            mean = 100 * sum(map(_segment_score, entries)) / len(entries)
            if not math.isfinite(mean):
                raise ValueError(f"{path} holds a COMET score that is not a finite number")
            signature = f"model:{model}|scale:100"
            return Score("COMET", mean, signature, f"COMET {mean:.2f} ({signature})")
    raise ValueError(
        f"{path} holds no scores of these {len(wanted):,} translations, but of other text "
        f"({', '.join(systems)}); run comet-score on the same translations"
    )


def _read_systems(path: Path) -> Dict[str, List[Dict[str, Any]]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; comet-score writes it with --to_json")
    content = read_json(path)
    systems = content if isinstance(content, dict) else {}
    if not systems or not all(map(_is_system, systems.values())):
        raise ValueError(f"{path} is not what comet-score --to_json writes")
    return systems


def _is_system(entries: Any) -> bool:
    return (
        isinstance(entries, list)
        and bool(entries)
        and all(isinstance(entry, dict) and _has_score(entry) for entry in entries)
    )


def _has_score(entry: Dict[str, Any]) -> bool:
    return isinstance(entry.get("COMET"), (int, float))


def _segment_score(entry: Dict[str, Any]) -> float:
    return float(entry["COMET"])
