"""One request on its way through the engine, seen from the event loop."""

import asyncio
from types import TracebackType
from typing import Self

from blip2_serve.engine.engine import Engine
from blip2_serve.engine.messages import Event, Failed, Finished, Request, TokenEvent


class EngineCall:
    """Submits a request and listens; leaving the `with` block before its end takes the request out of the engine."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self._engine = engine
        self._request = request
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._has_ended = False

    def __enter__(self) -> Self:
        """Submit the request.

        Raises:
            Blip2Error: the engine does not take it, see `Engine.submit`.
        """
        self._engine.submit(self._request, self._deliver)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def has_ended(self) -> bool:
        """True once there is nothing more to hear: the request is answered, has failed, or was closed."""
        return self._has_ended

    def close(self) -> None:
        """Take the request out of the engine, unless it has ended."""
        if not self._has_ended:
            self._has_ended = True
            self._engine.cancel(self._request.request_id)

    async def next(self) -> TokenEvent | Finished:
        """The next event.

        Raises:
            Blip2Error: the request failed.
        """
        event = await self._events.get()
        self._has_ended = not isinstance(event, TokenEvent)
        if isinstance(event, Failed):
            raise event.error
        return event

    async def finished(self) -> Finished:
        """The answer of a request that does not stream.

        Raises:
            Blip2Error: the request failed.
        """
        event = await self.next()
        assert isinstance(event, Finished), "only a streaming request is told its tokens"
        return event

    def _deliver(self, event: Event) -> None:
        """Called in the engine's thread."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)
