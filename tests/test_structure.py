"""The sizes of functions, files and folders are measured rightly, and the project keeps to their bounds."""

from pathlib import Path

import pytest

from scripts.measure_structure import Structure, read_structure, report, tracked_files

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def project() -> Structure:
    return read_structure(ROOT, tracked_files(ROOT))


def measured(root: Path, files: dict[str, str]) -> Structure:
    for path, source in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(source)
    return read_structure(root, map(Path, files))


def function(name: str, num_lines: int, indent: str = "") -> str:
    return f"{indent}def {name}():\n" + f"{indent}    pass\n" * (num_lines - 1)


def test_functions_over_forty_lines_are_listed_methods_and_nested_ones_too(tmp_path: Path) -> None:
    source = "class A:\n" + function("method", 41, "    ") + function("short", 40)
    source += "async def outer():\n" + function("inner", 43, "    ")
    structure = measured(tmp_path, {"a/b.py": source})
    assert sorted(structure.long_functions) == [
        "a/b.py:2 method, 41 lines",
        "a/b.py:83 outer, 44 lines",
        "a/b.py:84 inner, 43 lines",
    ]


def test_files_over_three_hundred_lines_are_listed(tmp_path: Path) -> None:
    structure = measured(tmp_path, {"long.py": "pass\n" * 301, "short.py": "pass\n" * 300})
    assert structure.long_files == ["long.py, 301 lines"]


def test_a_folder_holds_twelve_modules_beside_its_init_file(tmp_path: Path) -> None:
    files = {f"{folder}/m{number}.py": "" for folder, most in (("a", 12), ("b", 13)) for number in range(most)}
    structure = measured(tmp_path, {**files, "a/__init__.py": "", "b/c/deeper.py": ""})
    assert structure.full_folders == ["b, 13 modules"]


@pytest.mark.parametrize(
    ("files", "cycles"),
    [
        ({"a/x.py": "import a.y", "a/y.py": "import os"}, ()),
        ({"a/x.py": "from a import y", "a/y.py": "def f():\n    from a.x import g"}, (("a.x", "a.y"),)),
        ({"a/__init__.py": "from a.x import g", "a/x.py": "import a"}, (("a", "a.x"),)),
        (
            {"x.py": "import y", "y.py": "import z", "z.py": "import x", "v.py": "import x, w", "w.py": "import v"},
            (("v", "w"), ("x", "y", "z")),
        ),
    ],
)
def test_modules_that_import_each_other_are_a_cycle(
    tmp_path: Path, files: dict[str, str], cycles: tuple[tuple[str, ...], ...]
) -> None:
    assert measured(tmp_path, files).cycles == cycles


def test_the_report_counts_and_names_what_is_over_its_bound(tmp_path: Path) -> None:
    files = {"a.py": function("f", 41), "b.py": function("g", 3) + function("h", 2), "c/d.py": "pass\n" * 301}
    assert "\n".join(report(measured(tmp_path, files))).splitlines() == [
        "functions: 3, median 3 lines, 90th percentile 33.4",
        "modules of the fullest folder: 2 (.)",
        "functions over 40 lines: 1",
        "  a.py:1 f, 41 lines",
        "files over 300 lines: 1",
        "  c/d.py, 301 lines",
        "folders over 12 modules: 0",
        "import cycles: 0",
    ]


def test_the_project_has_no_long_function(project: Structure) -> None:
    assert len(project.functions) > 500
    assert project.long_functions == []


def test_the_project_has_no_long_file(project: Structure) -> None:
    assert {"service.py", "blip2_serve/config.py"} <= project.lines_of_files.keys()
    assert project.long_files == []


def test_the_project_has_no_full_folder(project: Structure) -> None:
    assert project.full_folders == []


def test_the_project_has_no_import_cycle(project: Structure) -> None:
    assert project.cycles == ()
