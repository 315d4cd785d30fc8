"""Send events as they come.

An error after the first token is an event too: a stream that simply ended would look like a complete answer.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from blip2_serve.tasks.stream import CompletionStream


class EventStream(StreamingResponse):
    """Sends the events of a stream; a caller that leaves, even before the first one, ends the work at once."""

    media_type = "text/event-stream"

    def __init__(self, stream: CompletionStream, events: AsyncGenerator[str, None], headers: dict[str, str]) -> None:
        super().__init__(events, headers={**headers, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._stream = stream
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer until the end or until the caller leaves."""
        async with aclosing(self._stream), aclosing(self._events):
            await super().__call__(scope, receive, send)
