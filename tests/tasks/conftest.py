"""The verbs on the real engine, of the checkpoint that a module loads."""

from collections.abc import Iterator

import pytest

from blip2_serve.config import Settings
from blip2_serve.model.load import LoadedModel
from blip2_serve.tasks.verbs import Tasks


@pytest.fixture(scope="module")
def tasks(loaded: LoadedModel) -> Iterator[Tasks]:
    """Of `loaded`, a fixture of the module's own."""
    running = Tasks(loaded, Settings(max_rows=32))
    yield running
    running.close()
