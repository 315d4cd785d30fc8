"""Pins agree with the wheel's ranges, one place has the version, and the wheel holds all that serving needs."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from blip2_serve import __version__
from blip2_serve.model.checkpoints import BUNDLED, BUNDLED_MATCHING
from support.bentos import export_tracked_files
from support.serving import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
RANGES = {
    "requirements.txt": PROJECT["dependencies"],
    "requirements-ui.txt": EXTRAS["ui"],
    "requirements-mcp.txt": EXTRAS["mcp"],
    "requirements-quantize.txt": EXTRAS["quantize"],
    "requirements-adapter.txt": EXTRAS["adapter"],
    "requirements-heif.txt": EXTRAS["heif"],
}


def by_name(lines: list[str]) -> dict[str, Requirement]:
    requirements = map(Requirement, lines)
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def pins(file: str) -> dict[str, Requirement]:
    return by_name([line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")])


def version_of(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "=="
    return only.version


def test_every_extra_has_its_pins() -> None:
    assert [f"requirements-{extra}.txt" for extra in EXTRAS] == list(RANGES)[1:]


@pytest.mark.parametrize("file", RANGES)
def test_pins_and_ranges_name_the_same_packages(file: str) -> None:
    assert set(pins(file)) == set(by_name(RANGES[file]))


@pytest.mark.parametrize("file", RANGES)
def test_every_pin_lies_in_its_range(file: str) -> None:
    ranges = by_name(RANGES[file])
    for name, pin in pins(file).items():
        assert ranges[name].specifier.contains(version_of(pin)), f"{pin} is not in {ranges[name]}"
        assert str(ranges[name].marker) == str(pin.marker)


def test_what_is_under_the_gpl_is_installed_by_whoever_asks_for_it_alone() -> None:
    others = [file for file in RANGES if file != "requirements-heif.txt"]
    assert not any("pillow-heif" in pins(file) for file in others)
    assert "heif" not in (ROOT / "bentofile.yaml").read_text()


@pytest.mark.parametrize("name", ["bentoml", "transformers"])
def test_libraries_whose_private_modules_are_used_have_an_upper_bound_to_the_next_release(name: str) -> None:
    allowed = by_name(RANGES["requirements.txt"])[name].specifier
    major, minor, patch = map(int, version_of(pins("requirements.txt")[name]).split("."))
    following = f"{major}.{minor}.{patch + 1}" if name == "bentoml" else f"{major}.{minor + 1}.0"
    assert not allowed.contains(following)


def test_the_version_is_that_of_the_changelogs_first_entry() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__
    assert "version" not in PROJECT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel built from a clone with a secret left in it."""
    tree, output = export_tracked_files(tmp_path_factory.mktemp("tree")), tmp_path_factory.mktemp("wheel")
    (tree / "blip2_serve/.env.local").write_text("TOKEN=secret\n")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(output), str(tree)], check=True, timeout=300)
    (built,) = output.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_the_package_with_checkpoints_and_pictures(wheel: zipfile.ZipFile) -> None:
    tracked = subprocess.check_output(["git", "ls-files", "blip2_serve"], cwd=ROOT, text=True).split()
    assert {f"blip2_serve/checkpoints/{name}/model.safetensors" for name in (*BUNDLED, *BUNDLED_MATCHING)} <= set(
        tracked
    )
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == {name for name in tracked if Path(ROOT, name).is_file()}


def test_the_wheel_has_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "blip2-serve = blip2_serve.cli.main:main" in wheel.read(entry_points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
