"""Imports point one way, and each library is imported only where it belongs."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "blip2_serve"

# From the bottom up: a module imports only from its own layer and the layers before it.
LAYERS = [
    {"errors", "options", "families", "clients", "machine", "memory", "remarks"},
    {"config"},
    {"images"},
    {"model"},
    {"engine"},
    {"tasks"},
    {"api"},
    {"bentoml_compat"},
    {"ui"},
    {"service", "cli"},
    {"__main__"},
]
ALLOWED = {
    "bentoml": {"blip2_serve/service.py", "blip2_serve/bentoml_compat.py"},
    "_bentoml_sdk": {"blip2_serve/api/native/inputs.py"},
    "click": {"blip2_serve/cli/"},
    "fastapi": {"blip2_serve/api/", "blip2_serve/ui/"},
    "gradio": {"blip2_serve/ui/"},
    "httpx": {"blip2_serve/images/"},
    "mcp": {"blip2_serve/api/mcp/server.py"},
    "mcp_types": {"blip2_serve/api/mcp/server.py"},
    "peft": {"blip2_serve/model/adapter/merge.py"},
    "pillow_heif": {"blip2_serve/images/formats/heif.py"},
    "starlette": {"blip2_serve/api/", "blip2_serve/ui/", "blip2_serve/service.py", "blip2_serve/bentoml_compat.py"},
    "torch": {"blip2_serve/model/", "blip2_serve/engine/"},
    "transformers": {"blip2_serve/model/", "blip2_serve/engine/backends/"},
}
WITHOUT_TORCH = [
    f"blip2_serve/engine/{name}.py"
    for name in (
        "messages",
        "scheduler",
        "sequence",
        "cache/rows",
        "decoding/stopping",
        "decoding/detokenizer",
        "vision/batcher",
    )
]


def modules() -> list[Path]:
    return [ROOT / "service.py", *sorted(PACKAGE.rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def layer(part: str) -> int | None:
    return next((index for index, names in enumerate(LAYERS) if part in names), None)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts if path.is_relative_to(PACKAGE) else ("service",)
    own = layer(parts[0])
    if own is None:
        assert parts[0] == "__init__"
        return
    for name in imports(path):
        if name.startswith("blip2_serve."):
            imported = layer(name.split(".")[1])
            assert imported is not None, f"{name} has no layer"
            assert imported <= own, f"{path.name} imports {name}, which lies above it"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_library_is_imported_only_where_it_belongs(path: Path) -> None:
    place = str(path.relative_to(ROOT))
    for name in imports(path):
        allowed = ALLOWED.get(name.split(".")[0])
        assert allowed is None or any(place.startswith(prefix) for prefix in allowed), f"{place} imports {name}"
        assert not (name.split(".")[0] == "torch" and place in WITHOUT_TORCH), f"{place} imports torch"


def test_every_place_that_is_named_here_exists() -> None:
    places = {place for allowed in ALLOWED.values() for place in allowed} | set(WITHOUT_TORCH)
    assert [place for place in places if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_environment_is_read_in_one_place(path: Path) -> None:
    # blip2_serve/__init__.py sets an OpenMP variable before torch is loaded, and reads none.
    assert path.name == "config.py" or "environ" not in path.read_text().replace("os.environ.setdefault", "")
