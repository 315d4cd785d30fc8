"""Servers on the demo checkpoint and with faults, and a client of the shared tiny server."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.serving import Server, serve


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real server as `make demo` starts it, otherwise with the settings of all tests (tests/support/serving.py)."""
    models = {"BLIP2_MODEL": "demo", "BLIP2_RETRIEVAL_MODEL": "demo-itm"}
    with serve(tmp_path_factory.mktemp("demo"), models) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    """A client of the server on the tiny OPT checkpoint."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def fuse(tmp_path: Path) -> Path:
    """A path: once the file exists, the next decode step of `faulty` raises."""
    return tmp_path / "fuse"


@pytest.fixture
def faulty(tiny_checkpoints: dict[str, Path], tmp_path: Path, fuse: Path) -> Iterator[Server]:
    """The real server on the tiny OPT checkpoint with slow decode steps (tests/support/faulty_service.py)."""
    settings = {"BLIP2_MODEL": str(tiny_checkpoints["opt"]), "FUSE": str(fuse), "BLIP2_MAX_ROWS": "16"}
    with serve(tmp_path, settings, "tests.support.faulty_service:Blip2") as running:
        yield running
