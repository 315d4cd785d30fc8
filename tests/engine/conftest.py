"""Engines that run in their own thread, stopped when their test is over."""

from collections.abc import Callable, Iterator

import pytest

from blip2_serve.engine.engine import Engine


@pytest.fixture
def started() -> Iterator[Callable[[Engine], Engine]]:
    """Start engines, and stop them after the test."""
    engines: list[Engine] = []

    def start(engine: Engine) -> Engine:
        engines.append(engine)
        engine.start()
        return engine

    yield start
    for engine in engines:
        engine.stop()
