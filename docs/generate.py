"""Write the parts of the documentation that are declared in the code.

    python docs/generate.py

A part stands between ``<!-- NAME: ... -->`` and ``<!-- end -->`` in its page.
tests/test_generated.py says when a page is behind the code.
"""

import dataclasses
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from tsa_mt import compat  # noqa: E402
from tsa_mt.objectives import OBJECTIVES, build_objective  # noqa: E402
from tsa_mt.objectives.config import ObjectiveConfig, shown  # noqa: E402
from tsa_mt.objectives.consistency import passes_of  # noqa: E402

ISSUE = "https://github.com/facebookresearch/fairseq/issues"


def fixes() -> str:
    """Write the table of the run-time fixes."""
    rows = ["| fix | without it | where | fairseq's own issue |", "|---|---|---|---|"]
    for fix in compat.FIXES:
        issue = f"[{fix.issue}]({ISSUE}/{fix.issue})" if fix.issue else ""
        rows.append(f"| `{fix.name}` | {fix.why} | {fix.versions} | {issue} |")
    return "\n".join(rows)


def methods() -> str:
    """Write the table of all objectives."""
    rows = ["| method | tree | needs | detached | published values | form |", "|---" * 6 + "|"]
    for name, cls in OBJECTIVES.items():
        file = cls.__module__.rpartition(".")[2]
        cells = (
            f"[`{name}`](../tsa_mt/objectives/{file}.py)",
            f"`{cls.default_tree}`",
            ", ".join(needs(name)) or "nothing",
            declared(cls, "Detached"),
            ", ".join(published(name)),
            declared(cls, "Form"),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def declared(cls: type, word: str) -> str:
    """Read a line such as ``Detached: the mean.`` in the docstring of an objective.

    Raises:
        ValueError: There is none.
    """
    found = re.search(
        rf"^ *{word}: (.*?)\.?$(?!\n {{8}})", cls.__doc__ or "", re.DOTALL | re.MULTILINE
    )
    if not found:
        raise ValueError(f"the docstring of {cls.__name__} has no line '{word}: ...'")
    return " ".join(found[1].split()).replace("``", "`")


def needs(name: str) -> list[str]:
    """Name everything that an objective needs beside logits and labels."""
    cls = OBJECTIVES[name]
    okd = build_objective(name, "1" if cls.needs_bridge else "0(1,1,1)", 8, 5)
    parts = [part for part, _ in okd.named_children()]
    return [
        *(["a frozen teacher"] if cls.needs_teacher else []),
        *(["a bridge out of it"] if cls.needs_bridge else []),
        *([f"trained parts: {' and '.join(parts)}"] if parts else []),
        *(["an averaged network"] if okd.average_decay is not None else []),
        *(["two passes over a batch"] if passes_of(okd) > 1 else []),
        *(["rescaled gradients"] if cls.rescales_shared else []),
    ]


def published(name: str) -> list[str]:
    """Write the published values of an objective's options."""
    values = {f.name: f.default for f in dataclasses.fields(OBJECTIVES[name].Config)}
    common = {f.name: f.default for f in dataclasses.fields(ObjectiveConfig)} | {
        "rampup_updates": 0
    }
    own = [option for option, value in values.items() if common.get(option, ...) != value]
    return [f"{option.replace('_', ' ')} {shown(values[option])}" for option in own]


def method_names() -> str:
    """Write the names of all objectives."""
    return ", ".join(f"`{name}`" for name in OBJECTIVES)


PARTS = {
    "compatibility.md": {"fixes": fixes},
    "methods.md": {"methods": methods},
    "../README.md": {"methods": method_names},
}


def filled(page: str, text: str) -> str:
    """Put the parts of a page in their places.

    Raises:
        ValueError: The page has no place for one of them.
    """
    for name, write in PARTS[page].items():
        place = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
        found = place.search(text)
        if found is None:
            raise ValueError(f"{page} has no place for {name!r}: <!-- {name}: ... --> <!-- end -->")
        text = f"{text[: found.end(1)]}{write()}\n{text[found.start(2) :]}"
    return text


def main() -> None:
    """Rewrite every page that has parts."""
    for page in PARTS:
        path = DOCS / page
        path.write_text(filled(page, path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
