"""Who may import whom, and what works without fairseq."""

import ast
from pathlib import Path

import pytest

import tsa_mt

PACKAGE = Path(tsa_mt.__file__).parent

CORE = {"tree", "branches", "objectives"}
TEACHING = {"teacher", "averaged", "compat"}  # compat: the list of classes for safe loading

# room: the rooms that it may import; a room that is not named here may import all but the command
MAY_IMPORT = {
    "tree": set(),
    "branches": {"tree"},
    "objectives": {"tree", "branches"},
    "head": CORE,
    "teacher": CORE,
    "averaged": CORE,
    "pairing": {"criterion"},
    "criterion": CORE | TEACHING | {"head"},
    "translation": CORE | TEACHING | {"options"},
    "vision": CORE | TEACHING | {"options"},
    "translate": {"export", "teacher"},
    "plan": CORE | TEACHING | {"criterion", "head", "options", "translation", "vision"},
    "compat": set(),
}
WITHOUT_FAIRSEQ = {"tree", "branches", "objectives", "head"}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imported_names(module):
    """Every module that a file imports, at the top or within a function."""
    for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module):
    return module.parts[0].removesuffix(".py")


def imported_rooms(module):
    rooms = {path.stem if path.suffix else path.name for path in PACKAGE.iterdir()}
    names = {name.split(".")[1] for name in imported_names(module) if name.startswith("tsa_mt.")}
    return names & rooms


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_imports_only_the_rooms_below_its_own(module):
    room = room_of(module)
    forbidden = imported_rooms(module) - MAY_IMPORT.get(room, imported_rooms(module)) - {room}
    assert not forbidden, f"{module} imports {', '.join(sorted(forbidden))}"


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) != "cli"], ids=str)
def test_nothing_imports_the_command_line(module):
    assert "cli" not in imported_rooms(module)


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) in WITHOUT_FAIRSEQ], ids=str)
def test_the_core_does_not_mention_fairseq_or_its_configuration(module):
    roots = {name.split(".")[0] for name in imported_names(module)}
    assert not roots & {"fairseq", "fairseq_cli", "omegaconf", "hydra"}


def test_the_tree_needs_the_standard_library_only():
    import sys

    roots = {name.split(".")[0] for name in imported_names(Path("tree.py"))}
    assert roots <= set(sys.stdlib_module_names) | {"tsa_mt"}


WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(["fairseq", "fairseq_cli", "omegaconf", "hydra", "torch"]))
from tsa_mt.tree import Tree
assert len(Tree.parse("4(2,2)").leaves) == 2
del sys.modules["torch"]
import torch
from tsa_mt import head
from tsa_mt.objectives import build_objective
okd = build_objective("tsa", tree="0(1,1)", feature_dim=4, num_classes=3)
terms = okd([torch.zeros(2, 3), torch.ones(2, 3)], torch.tensor([0, 2]))
assert torch.isfinite(sum(terms.values()))
print("works")
"""


def test_the_core_works_where_fairseq_is_absent(python):
    assert python("-c", WITHOUT).stdout == "works\n"


def test_a_broken_fairseq_is_a_warning_that_names_the_doctor(python, tmp_path, root):
    package = tmp_path / "fairseq"
    package.mkdir()
    (package / "__init__.py").write_text("raise ValueError('mutable default')\n")
    path = [tmp_path, root]
    done = python("-c", "import tsa_mt", path=path)
    assert (
        "the plugin is not registered: fairseq cannot be imported (ValueError: mutable default); "
        "see tsa-mt doctor" in done.stderr
    )
    report = python("-m", "tsa_mt.cli", "doctor", path=path, check=False)
    assert report.returncode == 1
    assert "ValueError: mutable default\n  mend: pip install fairseq-fixed==" in report.stdout
