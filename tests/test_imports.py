"""Who may import whom, and what works without fairseq."""

import ast
import graphlib
from pathlib import Path

import pytest

import tsa_mt

PACKAGE = Path(tsa_mt.__file__).parent

# Bottom first. Every module stands on the floor with the longest name that its own begins with. It
# imports from its own floor and from those before it in this list.
FLOORS = (
    "version",
    "files",
    "checksum",
    "run_lock",
    "byte_pieces",
    "characters",
    "textfile",
    "segments",
    "remarks",
    "tree",
    "sources",
    "branches",
    "objectives",
    "contracts",
    "compiled",
    "precision",
    "vitals",
    "memory",
    "head",
    "row_share",
    "compat",
    "last_words",
    "dropout",
    "dictionaries",
    "averaged",
    "teacher",
    "criterion",
    "pairing",
    "options",
    "modeling",
    "translation",
    "vision",
    "plan.formulas",
    "evaluate",
    "batches",
    "identity",
    "saving",
    "finite",
    "stopping",
    "plugin",
    "plan",
    "flags",
    "export",
    "translate",
    "export.reference",
    "export.certificate",
    "export.image",
    "export.command",
    "forward_translate",
    "vision.classify",
    "evaluate.report",
    "doctor",
    "__init__",
    "cli",
)
WITHOUT_FAIRSEQ = (
    *("version", "files", "characters", "textfile", "segments", "tree", "branches", "objectives"),
    *("compiled", "precision", "remarks", "vitals", "head", "row_share"),
)


def dotted(path):
    """The name of a module within the package; a folder's own is the folder's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_names(module):
    """Every module that a file imports, at the top or within a function."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names
            if not all(name.removeprefix("tsa_mt.") in MODULES for name in names):
                yield node.module  # else modules alone are imported, nothing of their folder's


def imported_modules(module):
    """The modules of the package that a module imports."""
    names = {
        "__init__" if name == "tsa_mt" else name.removeprefix("tsa_mt.")
        for name in imported_names(module)
        if name.split(".")[0] == "tsa_mt"
    }
    if any(name in MODULES for name in names - {"__init__"}):
        names.discard("__init__")  # `from tsa_mt import plugin` is an import of the plugin
    return names & set(MODULES)


def floor(module):
    found = [name for name in FLOORS if f"{module}.".startswith(f"{name}.")]
    assert found, f"{module} stands on no floor: give it its place in FLOORS, in this file"
    return FLOORS.index(max(found, key=len))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_its_own_floor_and_those_below(module):
    above = [name for name in imported_modules(module) if floor(name) > floor(module)]
    assert not above, f"{module} imports {', '.join(sorted(above))}, which stands above it"


def test_no_imports_form_a_circle():
    graph = {module: imported_modules(module) - {module} for module in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_every_floor_has_a_module():
    assert {floor(module) for module in MODULES} == set(range(len(FLOORS)))


def test_nothing_imports_the_command_line_or_the_report():
    for module in MODULES:
        used = imported_modules(module)
        assert "cli" not in used
        assert module.startswith("evaluate.report") or not any(
            name.startswith("evaluate.report") for name in used
        )


@pytest.mark.parametrize("module", [m for m in MODULES if FLOORS[floor(m)] in WITHOUT_FAIRSEQ])
def test_the_core_does_not_mention_fairseq_or_its_configuration(module):
    roots = {name.split(".")[0] for name in imported_names(module)}
    assert not roots & {"fairseq", "fairseq_cli", "omegaconf", "hydra"}


def test_the_tree_and_files_need_the_standard_library_only():
    import sys

    for module in ("tree", "files", "version"):
        roots = {name.split(".")[0] for name in imported_names(module)}
        assert roots <= set(sys.stdlib_module_names) | {"tsa_mt"}


REFUSING = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Refusing())
refused = {"fairseq", "fairseq_cli", "omegaconf", "hydra"}
"""

CORE_ALONE = """
refused.add("torch")
from tsa_mt.tree import Tree
assert len(Tree.parse("4(2,2)").leaves) == 2
refused.remove("torch")
import torch
allowed = set(torch.serialization.get_safe_globals())
from tsa_mt import branches, head
from tsa_mt.objectives import build_objective
okd = build_objective("tsa", tree="0(1,1)", feature_dim=4, num_classes=3)
terms = okd([torch.zeros(2, 3), torch.ones(2, 3)], torch.tensor([0, 2]))
assert torch.isfinite(sum(terms.values()))
assert set(torch.serialization.get_safe_globals()) == allowed
print("works")
"""


def test_the_core_works_where_fairseq_is_refused_and_changes_nothing(python):
    assert python("-c", REFUSING + CORE_ALONE).stdout == "works\n"


LIGHT = """
refused |= {"torch", "numpy", "sacrebleu"}
from tsa_mt import cli
for line in (["--version"], ["tree", "6"], ["user-dir"], *([name, "--help"] for name in HELP)):
    try:
        cli.main(line)
    except SystemExit as left:
        assert left.code == 0, line
"""


def test_small_commands_and_the_help_of_others_start_without_any_heavy_package(python):
    names = ("tree", "doctor", "score", "compare", "report", "translate")
    help_of = f"HELP = {names!r}"
    printed = python("-c", f"{REFUSING}\n{help_of}\n{LIGHT}").stdout
    assert all(f"usage: tsa-mt {name}" in printed for name in names)


LATE = """
import logging
import tsa_mt
from tsa_mt import plugin
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.logging import progress_bar
assert "tree_transformer" not in ARCH_MODEL_REGISTRY
plugin.register()
bar = progress_bar.progress_bar
plugin.register()
assert progress_bar.progress_bar is bar and bar.records
print("tree_transformer" in ARCH_MODEL_REGISTRY)
"""


def test_a_program_that_imports_the_package_before_fairseq_registers_it_by_one_call(python):
    assert python("-c", LATE).stdout == "True\n"


def test_a_broken_fairseq_is_a_sentence_that_names_the_doctor(python, tmp_path, root):
    package = tmp_path / "fairseq"
    package.mkdir()
    (package / "__init__.py").write_text("raise ValueError('mutable default')\n")
    path = [tmp_path, root]
    done = python("-m", "tsa_mt.cli", "options", path=path, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "tsa-mt options: error: fairseq cannot be imported (ValueError: mutable default); "
        "tsa-mt doctor says what to install\n",
    )
    report = python("-m", "tsa_mt.cli", "doctor", path=path, check=False)
    assert report.returncode == 1
    assert "ValueError: mutable default\n  mend: pip install fairseq-fixed==" in report.stdout
