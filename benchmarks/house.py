"""How the package is built, in numbers, for one checkout or several side by side.

    python benchmarks/house.py BEFORE AFTER          # folders of checkouts; prints a table

* A method file imports names and modules of this package: median and most over all method files.
* One TSA step is the criterion's forward and the backward of a tiny tree, the second of two. A move
  is a call that goes from one file of the package to another.
* Members of ``Objective`` are what its class body defines, names with two underscores apart.
* Start-up is the best of three processes: seconds of the processor, which other work on the machine
  does not lengthen, and the largest resident memory.
* ``mypy`` runs on the package with its default settings.
* An arrow up is an import of a module that stands higher in FLOORS (tests/test_imports.py). A
  circle is a set of modules that import each other.
* Lines of code are lines of the package without blank lines, comments and docstrings.

``python -X importtime -m tsa_mt.cli --version`` says what a start-up is made of.
"""

import argparse
import ast
import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Any, Iterator

STARTS = {
    "tsa-mt --version": ["-m", "tsa_mt.cli", "--version"],
    "tsa-mt tree 6": ["-m", "tsa_mt.cli", "tree", "6"],
    "tsa-mt score --help": ["-m", "tsa_mt.cli", "score", "--help"],
    "import of an objective": ["-c", "from tsa_mt.objectives import build_objective"],
}
ROUNDS = 3

STEP = """
import json, os, sys
import torch
import fairseq
import tsa_mt
from tsa_mt.plan.translation import TranslationSubject

torch.manual_seed(1)
size = {"vocabulary": (64, 64), "lengths": (8, 8), "max_tokens": 32}
subject = TranslationSubject("tree_transformer_tiny", {"kd_objective": "tsa"}, **size)
model = subject.model()
criterion = subject.criterion(model)
sample = subject.batch(model)
package = os.path.dirname(tsa_mt.__file__)
stack, files, functions, moves = [""], set(), set(), 0

def watch(frame, event, argument):
    global moves
    file = frame.f_code.co_filename
    if not file.startswith(package) or event not in ("call", "return"):
        return
    if event == "call":
        moves += stack[-1] not in ("", file)  # "" is this program
        stack.append(file)
        files.add(file)
        functions.add((file, frame.f_code.co_firstlineno))
    elif len(stack) > 1:
        stack.pop()

def step():
    loss, _, _ = criterion(model, sample)
    loss.backward()

step()
sys.setprofile(watch)
step()
sys.setprofile(None)
print(json.dumps({"files": len(files), "moves": moves, "functions": len(functions)}))
"""


def modules_of(root: Path) -> dict[str, Path]:
    """Find the modules of the package, by dotted name without the package's own."""
    package = root / "tsa_mt"
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        short = parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts
        found[".".join(short)] = path
    return found


def imports_of(path: Path) -> Iterator[tuple[str, str]]:
    """Find what a file imports from the package: pairs of a module and a name, which may be ''."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tsa_mt":
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from ((name, "") for name in names if name.split(".")[0] == "tsa_mt")


def graph_of(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Find which module imports which."""
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        graph[module] = set()
        for source, name in imports_of(path):
            place = source.removeprefix("tsa_mt").removeprefix(".")
            inner = f"{place}.{name}" if place else name
            target = inner if inner in modules else place or "__init__"
            if target in modules and target != module:
                graph[module].add(target)
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Find the sets of modules that import each other, by what each of them reaches."""
    reach: dict[str, set[str]] = {}
    for module in graph:
        seen: set[str] = set()
        waiting = list(graph[module])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting.extend(graph[name])
        reach[module] = seen
    found = {
        frozenset(other for other in reach[module] if module in reach[other])
        for module in graph
        if module in reach[module]
    }
    return [set(circle) for circle in found]


def floors() -> list[str]:
    """Read the ordered list of floors from the test that enforces it, bottom first."""
    path = Path(__file__).resolve().parents[1] / "tests" / "test_imports.py"
    spec = importlib.util.spec_from_file_location("test_imports", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.FLOORS)


def arrows_up(graph: dict[str, set[str]], order: list[str]) -> list[str]:
    """Find the imports of a module on a higher floor."""

    def floor(module: str) -> int:
        found = [name for name in order if f"{module}.".startswith(f"{name}.")]
        return order.index(max(found, key=len)) if found else -1

    return [
        f"{module} -> {other}"
        for module, others in graph.items()
        for other in others
        if floor(other) > floor(module) >= 0
    ]


def method_imports(modules: dict[str, Path]) -> tuple[list[int], list[int]]:
    """Count the names and the modules that every method file imports."""
    names, sources = [], []
    for module, path in modules.items():
        if not module.startswith("objectives."):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        decorators = [d for n in tree.body if isinstance(n, ast.ClassDef) for d in n.decorator_list]
        if any("register_objective" in ast.unparse(decorator) for decorator in decorators):
            found = set(imports_of(path))
            names.append(len(found))
            sources.append(len({source for source, _ in found}))
    return names, sources


def objective_members(modules: dict[str, Path]) -> tuple[int, int]:
    """Count what the class body of ``Objective`` defines, and the methods that only raise."""
    tree = ast.parse(modules["objectives.base"].read_text(encoding="utf-8"))
    (body,) = [n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Objective"]
    members, abstract = set(), 0
    for node in body:
        if isinstance(node, ast.FunctionDef):
            members.add(node.name)
            abstract += "NotImplementedError" in ast.unparse(node.body[-1])
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            members.add(node.target.id)
        elif isinstance(node, ast.Assign):
            members.update(t.id for t in node.targets if isinstance(t, ast.Name))
    return len([name for name in members if not name.startswith("__")]), abstract


def code_lines(path: Path) -> int:
    """Count the lines of a file that hold code."""
    text = path.read_text(encoding="utf-8")
    idle = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    fresh = True  # whether a statement begins
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in idle or token.type == tokenize.ENDMARKER:
            fresh |= token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
            continue
        if not (fresh and token.type == tokenize.STRING):  # else a docstring
            lines.update(range(token.start[0], token.end[0] + 1))
        fresh = False
    return len(lines)


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python on a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)


def start_up(root: Path, arguments: list[str]) -> tuple[float, float]:
    """Start a process several times: its least processor time in seconds, its memory in MB."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    seconds, memory = [], []
    for _ in range(ROUNDS):
        child = subprocess.Popen(
            [sys.executable, *arguments], env=environment, cwd=root, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds.append(usage.ru_utime + usage.ru_stime)
        assert status == 0, f"{arguments} fails in {root}"
        memory.append(usage.ru_maxrss / 1024)
    return min(seconds), max(memory)


def type_errors(root: Path) -> str:
    """Count what mypy finds with its default settings."""
    done = run(root, "-m", "mypy", "--config-file=", "--ignore-missing-imports", "tsa_mt")
    last = (done.stdout.strip().splitlines() or ["mypy is not installed"])[-1]
    return last.split()[1] if last.startswith("Found") else "0" if "Success" in last else last


def tsa_step(root: Path) -> dict[str, Any]:
    """Trace one TSA step."""
    done = run(root, "-c", STEP)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def measure(root: Path, slow: bool) -> dict[str, str]:
    """Measure everything about a checkout."""
    modules = modules_of(root)
    graph = graph_of(modules)
    names, sources = method_imports(modules)
    members, abstract = objective_members(modules)
    step = tsa_step(root)
    rows = {
        "names a method imports, median and most": f"{statistics.median(names):g}, {max(names)}",
        "modules a method imports": f"{statistics.median(sources):g}, {max(sources)}",
        "files of one TSA step": str(step["files"]),
        "moves of one TSA step": str(step["moves"]),
        "functions of one TSA step": str(step["functions"]),
        "members of Objective, of them abstract": f"{members}, {abstract}",
        "arrows up": str(len(arrows_up(graph, floors()))),
        "circles": str(len(circles(graph))),
        "files": str(len(modules)),
        "lines of code": f"{sum(map(code_lines, modules.values())):,}",
    }
    for name, arguments in STARTS.items():
        seconds, memory = start_up(root, arguments)
        rows[name] = f"{seconds:.2f} s, {memory:.0f} MB"
    if slow:
        rows["errors of mypy, default settings"] = type_errors(root)
    return rows


def main() -> None:
    """Print one column for every checkout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("roots", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--no-mypy", action="store_true", help="leave out what takes a minute")
    args = parser.parse_args()
    columns = [measure(root.resolve(), not args.no_mypy) for root in args.roots]
    print("| | " + " | ".join(map(commit, args.roots)) + " |")
    print("|---" + "|---:" * len(columns) + "|")
    for row in columns[0]:
        print(f"| {row} | " + " | ".join(column.get(row, "") for column in columns) + " |")


def commit(root: Path) -> str:
    """Name the commit of a checkout."""
    git = ["git", "-C", str(root), "describe", "--always", "--dirty=+"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip() or root.name


if __name__ == "__main__":
    main()
