"""Write the parts of the documentation that are declared in the code.

    python docs/generate.py

A part stands between ``<!-- NAME: ... -->`` and ``<!-- end -->`` in its page.
tests/test_generated.py says when a page is behind the code.
"""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from tsa_mt import compat  # noqa: E402

ISSUE = "https://github.com/facebookresearch/fairseq/issues"


def fixes() -> str:
    """Write the table of the run-time fixes."""
    rows = ["| fix | without it | where | fairseq's own issue |", "|---|---|---|---|"]
    for fix in compat.FIXES:
        issue = f"[{fix.issue}]({ISSUE}/{fix.issue})" if fix.issue else ""
        rows.append(f"| `{fix.name}` | {fix.why} | {fix.versions} | {issue} |")
    return "\n".join(rows)


PARTS = {"compatibility.md": {"fixes": fixes}}


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
