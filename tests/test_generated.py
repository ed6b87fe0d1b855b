"""The generated parts of the documentation are those that the code would write now."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


def load():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load()


@pytest.mark.parametrize("page", generate.PARTS)
def test_a_page_is_what_the_code_declares(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert generate.filled(page, text) == text, f"run: python docs/generate.py (for {page})"


def test_a_page_without_a_place_for_its_part_is_refused():
    with pytest.raises(ValueError, match=r"compatibility\.md has no place for 'fixes'"):
        generate.filled("compatibility.md", "nothing")
