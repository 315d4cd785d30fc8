"""One HTTP client for the tests that talk to the shared server."""

from collections.abc import Iterator

import httpx
import pytest
from serving import Server


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    """A client of the server on the tiny OPT checkpoint."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
