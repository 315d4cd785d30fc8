"""Measures what a reader of the code has to hold in mind.

`make structure` prints the length of functions, files and folders, the import cycles, and the own functions and files
that a request passes. `--root` measures another checkout.
"""

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRACER = Path(__file__).with_name("trace_requests.py")
BELOW_THE_DOOR = ("blip2_serve/engine/", "blip2_serve/model/")

MAX_FUNCTION_LINES = 40
MAX_FILE_LINES = 300
MAX_MODULES = 12  # of a folder, `__init__.py` aside

Imports = Mapping[str, set[str]]


@dataclass(frozen=True)
class Function:
    """A function or method: where it begins, and its lines from `def` to the last."""

    place: str
    name: str
    num_lines: int

    def __str__(self) -> str:
        return f"{self.place} {self.name}, {self.num_lines} lines"


@dataclass(frozen=True)
class Structure:
    """Sizes by path relative to the root, and groups of modules that import each other."""

    functions: tuple[Function, ...]
    lines_of_files: Mapping[str, int]
    modules_of_folders: Mapping[str, int]
    cycles: tuple[tuple[str, ...], ...]

    @property
    def long_functions(self) -> list[str]:
        return [str(function) for function in self.functions if function.num_lines > MAX_FUNCTION_LINES]

    @property
    def long_files(self) -> list[str]:
        return [f"{path}, {lines} lines" for path, lines in self.lines_of_files.items() if lines > MAX_FILE_LINES]

    @property
    def full_folders(self) -> list[str]:
        return [
            f"{path}, {modules} modules" for path, modules in self.modules_of_folders.items() if modules > MAX_MODULES
        ]


def main() -> None:
    """Print the measurements of a checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to be measured")
    parser.add_argument("--passed", action="store_true", help="list the functions that each request passes")
    options = parser.parse_args()
    root = options.root.resolve()
    for name, passed in trace_requests(root).items():
        print(in_words(name, passed))
        if options.passed:
            print("\n".join(f"  {function}" for function in passed))
    print("\n".join(report(read_structure(root, tracked_files(root)))))


def tracked_files(root: Path) -> list[Path]:
    """Python files that git tracks, without the tests."""
    listed = subprocess.check_output(["git", "ls-files", "-z", "*.py"], cwd=root, text=True).split("\0")
    return [Path(path) for path in listed if path and not path.startswith("tests/") and (root / path).exists()]


def read_structure(root: Path, paths: Iterable[Path]) -> Structure:
    """Parse the files at `paths`, which are relative to `root`."""
    sources = {path: (root / path).read_text() for path in sorted(paths)}
    trees = {path: ast.parse(source) for path, source in sources.items()}
    return Structure(
        functions=tuple(function for path, tree in trees.items() for function in functions_of(path, tree)),
        lines_of_files={str(path): len(source.splitlines()) for path, source in sources.items()},
        modules_of_folders=Counter(str(path.parent) for path in sources if path.name != "__init__.py"),
        cycles=tuple(import_cycles(imports_between(trees))),
    )


def functions_of(path: Path, tree: ast.Module) -> Iterator[Function]:
    """All functions of a module, nested ones among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield Function(f"{path}:{node.lineno}", node.name, node.end_lineno - node.lineno + 1)


def imports_between(trees: Mapping[Path, ast.Module]) -> Imports:
    """By module name, the modules among `trees` that it imports anywhere, in functions too."""
    modules = {module_name(path): tree for path, tree in trees.items()}
    return {name: set(imported_modules(tree)) & modules.keys() - {name} for name, tree in modules.items()}


def module_name(path: Path) -> str:
    """`a.b` for a/b.py and for a/b/__init__.py."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(tree: ast.Module) -> Iterator[str]:
    """Every dotted name that may be a module: of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_cycles(imports: Imports) -> Iterator[tuple[str, ...]]:
    """Groups of modules that all reach each other, each group once."""
    reached = {name: reachable(name, imports) for name in imports}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in imports
        if name in reached[name]
    }
    yield from sorted(groups)


def reachable(name: str, imports: Imports) -> set[str]:
    """The modules that `name` imports, directly or through others; itself only in a cycle."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = imports[waiting.pop()] - found
        found |= new
        waiting.extend(new)
    return found


def report(structure: Structure) -> Iterator[str]:
    """One line for each measurement, and below it what is over its bound."""
    lengths = [function.num_lines for function in structure.functions]
    folder, most = max(structure.modules_of_folders.items(), key=lambda item: item[1])
    median, ninetieth = statistics.median(lengths), statistics.quantiles(lengths, n=10, method="inclusive")[-1]
    yield f"functions: {len(lengths)}, median {median:g} lines, 90th percentile {ninetieth:g}"
    yield f"modules of the fullest folder: {most} ({folder})"
    for title, places in (
        (f"functions over {MAX_FUNCTION_LINES} lines", structure.long_functions),
        (f"files over {MAX_FILE_LINES} lines", structure.long_files),
        (f"folders over {MAX_MODULES} modules", structure.full_folders),
        ("import cycles", [", ".join(cycle) for cycle in structure.cycles]),
    ):
        yield "\n  ".join([f"{title}: {len(places)}", *places])


def trace_requests(root: Path) -> dict[str, list[str]]:
    """By request, the own functions that it passes, as `file: function`; traced in a process of its own."""
    settings = {"BLIP2_MODEL": "demo", "BLIP2_UI": "off", "BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": str(root)}
    output = subprocess.check_output([sys.executable, str(TRACER)], cwd=root, env=os.environ | settings, text=True)
    passed: dict[str, list[str]] = json.loads(output.splitlines()[-1])
    return passed


def in_words(name: str, passed: list[str]) -> str:
    """How much is passed in all, and above the engine's door."""
    above = [function for function in passed if not function.startswith(BELOW_THE_DOOR)]
    return f"{name}: {count_passed(passed)}; above the engine's door {count_passed(above)}"


def count_passed(passed: Iterable[str]) -> str:
    functions = list(passed)
    files = {function.partition(": ")[0] for function in functions}
    return f"{len(functions)} functions, {len(files)} files"


if __name__ == "__main__":
    main()
