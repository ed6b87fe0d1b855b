"""What the wheel holds and declares, and that every place names the same versions."""

import re
import zipfile
from email.parser import Parser

import pytest

import tsa_mt
from tsa_mt import doctor


@pytest.fixture(scope="module")
def content(wheel):
    with zipfile.ZipFile(wheel) as file:
        yield {name: file.read(name).decode() for name in file.namelist()}


@pytest.fixture(scope="module")
def described(content):
    (text,) = (text for name, text in content.items() if name.endswith("/METADATA"))
    return Parser().parsestr(text)


def test_the_wheel_holds_every_module_of_the_package_and_nothing_else(content, root):
    modules = {str(path.relative_to(root)) for path in (root / "tsa_mt").rglob("*.py")}
    assert modules | {"tsa_mt/py.typed"} == {n for n in content if ".dist-info/" not in n}


def test_the_wheel_declares_the_command_and_the_licence(content):
    (entry_points,) = (text for name, text in content.items() if name.endswith("entry_points.txt"))
    assert "tsa-mt = tsa_mt.cli:main" in entry_points
    assert any(name.endswith("LICENSE") and "MIT License" in content[name] for name in content)


def test_the_version_is_the_package_s(described):
    assert described["Version"] == tsa_mt.__version__


def test_the_changelog_begins_with_this_version(root):
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\d\S*)", text, re.MULTILINE).group(1) == tsa_mt.__version__


def test_the_citation_file_has_this_version(root):
    text = (root / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {tsa_mt.__version__}\n" in text


def test_the_extras_are_declared(described):
    extras = set(described.get_all("Provides-Extra"))
    assert extras == {"data", "demo", "deploy", "huggingface", "test", "track", "vision"}


def test_the_doctor_knows_every_requirement_and_every_extra_but_the_tests(described):
    found = {}
    for line in described.get_all("Requires-Dist"):
        name, extra = re.match(r"([\w-]+)(?:.*extra == [\"'](\w+))?", line).groups()
        found.setdefault(extra, set()).add(name)
    assert found.pop(None) == {*doctor.REQUIRED, "torch", "fairseq-fixed"}
    del found["test"]
    known = {}
    for name, (extra, _) in doctor.OPTIONAL.items():
        known.setdefault(extra, set()).add(name)
    assert found == known


def test_all_places_pin_the_same_fairseq(described, root):
    assert doctor.FAIRSEQ in described.get_all("Requires-Dist")
    for name in ("constraints.txt", "fairseq-hashes.txt"):
        lines = (root / name).read_text(encoding="utf-8").split()
        assert doctor.FAIRSEQ in lines


def test_the_comment_in_the_constraints_has_the_hashes_that_pip_checks(root):
    hashes = re.findall(r"sha256:([0-9a-f]{64})", (root / "fairseq-hashes.txt").read_text())
    comments = re.findall(r"^#\s+([0-9a-f]{64})", (root / "constraints.txt").read_text(), re.M)
    assert len(hashes) == 3
    assert hashes == comments
