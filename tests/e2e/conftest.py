"""The demo checkpoint's server, and one HTTP client for the tests that talk to the shared tiny one."""

from collections.abc import Iterator

import httpx
import pytest
from serving import Server, serve


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real server on the demo checkpoint, with every setting at its default."""
    with serve(tmp_path_factory.mktemp("demo"), {"BLIP2_MODEL": "demo"}) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    """A client of the server on the tiny OPT checkpoint."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
