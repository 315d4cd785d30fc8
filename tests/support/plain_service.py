"""A BentoML service without our code, to show BentoML's own behaviour."""

import asyncio
from pathlib import Path

import bentoml


@bentoml.service(name="plain")
class Plain:
    """Endpoints that show what we would otherwise rely on."""

    @bentoml.api
    async def say(self, text: str) -> str:
        """Return `text`."""
        return text

    @bentoml.api
    async def note_after(self, seconds: float, path: str) -> str:
        """Write a file after a while: a caller that left may find it."""
        await asyncio.sleep(seconds)
        await asyncio.to_thread(Path(path).touch)
        return "noted"
