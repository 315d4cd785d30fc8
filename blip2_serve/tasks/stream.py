"""Requests in the engine as the event loop sees them, and completions as they grow."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Self

from blip2_serve.engine.engine import Engine
from blip2_serve.engine.messages import Event, Failed, Finished, Request, RetrievalRequest, Retrieved, TokenEvent
from blip2_serve.errors import Blip2Error
from blip2_serve.tasks.completion import CompletedRequest, CompletionPiece
from blip2_serve.tasks.load.admission import Admitted
from blip2_serve.tasks.text import Transcript

StreamPart = CompletionPiece | CompletedRequest


class EngineCall:
    """Submits a request and receives its events; closing it early cancels the request.

    Raises:
        Blip2Error: the engine refuses the request, see `Engine.submit`.
    """

    def __init__(self, engine: Engine, request: Request | RetrievalRequest) -> None:
        self._engine = engine
        self._request_id = request.request_id
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._arrived: deque[Event] = deque()
        self._is_called = False
        self._loop = asyncio.get_running_loop()
        self._has_ended = False
        engine.submit(request, self._deliver)

    async def next(self) -> TokenEvent | Finished | Retrieved:
        """Wait for the next event; a request that does not stream has only one.

        Raises:
            Blip2Error: the request failed.
        """
        event = await self._events.get()
        self._has_ended = not isinstance(event, TokenEvent)
        if isinstance(event, Failed):
            raise event.error
        return event

    @property
    def has_more_at_hand(self) -> bool:
        """True if `next` would not wait."""
        return not self._events.empty()

    def close(self) -> None:
        """Stop listening; cancels the request unless it has ended."""
        if not self._has_ended:
            self._has_ended = True
            self._engine.cancel(self._request_id)

    def _deliver(self, event: Event) -> None:
        """Pass an event to the event loop, which is called once for all that arrive until it comes.

        Runs on a thread of the engine.
        """
        self._arrived.append(event)
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._is_called = False  # before the last look: whatever arrives after it calls again
        while self._arrived:
            self._events.put_nowait(self._arrived.popleft())


class CompletionStream:
    """An asynchronous iterator: a `CompletionPiece` for every token, then the `CompletedRequest`.

    A row's pieces join to the text of its completion. Close the stream when leaving it early.
    """

    def __init__(
        self,
        image_id: str,
        dropped_turns: int | None,
        call: EngineCall,
        transcript: Transcript,
        complete: Callable[[Finished], Awaitable[CompletedRequest]],
        place: Admitted,
    ) -> None:
        self.image_id = image_id
        self.dropped_turns = dropped_turns
        self._call = call
        self._transcript = transcript
        self._complete = complete
        self._place = place
        self._first: StreamPart | None = None
        self._has_ended = False

    async def start(self) -> Self:
        """Wait for the first part and keep it for the iteration: failures up to then are raised here.

        Raises:
            Blip2Error: the request failed.
        """
        try:
            self._first = await self._next()
        except BaseException:
            self._call.close()
            raise
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamPart:
        first, self._first = self._first, None
        if first is not None:
            return first
        if self._has_ended:
            raise StopAsyncIteration
        return await self._next()

    @property
    def has_more_at_hand(self) -> bool:
        """True if the next part is there already."""
        return self._first is not None or (not self._has_ended and self._call.has_more_at_hand)

    async def aclose(self) -> None:
        """Stop listening."""
        self._end()
        self._call.close()

    def _end(self, *, is_answered: bool = False) -> None:
        self._has_ended = True
        self._place.is_answered = is_answered
        self._place.leave()

    async def _next(self) -> StreamPart:
        try:
            event = await self._call.next()
        except Blip2Error:
            self._end()
            raise
        if isinstance(event, Finished):
            self._end(is_answered=True)
            return await self._complete(event)
        assert isinstance(event, TokenEvent), "only retrieval is answered otherwise"
        return CompletionPiece(event.row, event.text, self._transcript.token(event))
