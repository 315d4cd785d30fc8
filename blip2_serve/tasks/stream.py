"""Completions as they grow."""

from collections.abc import Awaitable, Callable
from typing import Self

from blip2_serve.engine.messages import Finished
from blip2_serve.tasks.completion import CompletedRequest, CompletionPiece
from blip2_serve.tasks.engine_call import EngineCall
from blip2_serve.tasks.text import Transcript

StreamPart = CompletionPiece | CompletedRequest


class CompletionStream:
    """An asynchronous iterator: a `CompletionPiece` for every token, then the `CompletedRequest`.

    The texts of a row's pieces join to the text of its completion. A listener that leaves early closes the stream,
    which takes the request out of the engine.
    """

    def __init__(
        self,
        image_id: str,
        dropped_turns: int | None,
        call: EngineCall,
        transcript: Transcript,
        complete: Callable[[Finished], Awaitable[CompletedRequest]],
    ) -> None:
        self.image_id = image_id
        self.dropped_turns = dropped_turns
        self._call = call
        self._transcript = transcript
        self._complete = complete
        self._first: StreamPart | None = None

    async def start(self) -> Self:
        """Wait for the first part, and keep it for the iteration: what fails until then is raised here.

        Raises:
            Blip2Error: the request failed.
        """
        try:
            self._call.__enter__()
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
        if self._call.has_ended:
            raise StopAsyncIteration
        return await self._next()

    async def aclose(self) -> None:
        """Stop listening."""
        self._call.close()

    async def _next(self) -> StreamPart:
        event = await self._call.next()
        if isinstance(event, Finished):
            return await self._complete(event)
        return CompletionPiece(event.row, event.text, self._transcript.token(event))
