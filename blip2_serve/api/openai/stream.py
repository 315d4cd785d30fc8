"""Stream an answer as server-sent events: the role, a chunk per token, the finish reason and `data: [DONE]`.

An error after the first token is an event too, `data: {"error": ...}` without [DONE]: a stream that simply ended would
look like a complete answer.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from blip2_serve.api.errors import error_body, public_error
from blip2_serve.api.openai.messages import FIELDS
from blip2_serve.api.openai.render import ChunkHead
from blip2_serve.api.openai.responses import Usage
from blip2_serve.tasks.completion import CompletedRequest
from blip2_serve.tasks.stream import CompletionStream, StreamPart


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


class Chunks:
    """Build the chunks of one stream; all share an id."""

    def __init__(self, model: str, *, logprobs: bool, include_usage: bool) -> None:
        self._head = ChunkHead(model)
        self._logprobs = logprobs
        self._include_usage = include_usage

    async def events(self, stream: CompletionStream, num_answers: int) -> AsyncGenerator[str, None]:
        """Yield the events of a stream that has started; those that are there at once go out together."""
        begins = {"role": "assistant", "content": ""}
        ready = [self._head.event(index, begins) for index in range(num_answers)]
        try:
            async for part in stream:
                ready += self._events_of(part)
                if not stream.has_more_at_hand:
                    yield "".join(ready)
                    ready.clear()
            yield "".join([*ready, "data: [DONE]\n\n"])
        except Exception as error:
            yield "".join([*ready, f"data: {json.dumps(error_body(public_error(error), FIELDS))}\n\n"])

    def _events_of(self, part: StreamPart) -> list[str]:
        if isinstance(part, CompletedRequest):
            ends = enumerate(part.completions)
            events = [self._head.event(row, {}, finish_reason=each.finish_reason) for row, each in ends]
            return [*events, self._head.usage_event(Usage.of(part))] if self._include_usage else events
        tokens = (part.token,) if self._logprobs and part.token else None
        if not part.text and tokens is None:
            return []
        return [self._head.event(part.row, {"content": part.text}, tokens)]
