"""Stream an answer as chunks: the role, a chunk per token, the finish reason and `data: [DONE]`.

An error after the first token is `data: {"error": ...}` without [DONE].
"""

import json
from collections.abc import AsyncGenerator

from blip2_serve.api.errors import error_body, public_error
from blip2_serve.api.openai.answers import Usage
from blip2_serve.api.openai.chat.render import ChunkHead
from blip2_serve.api.openai.messages import FIELDS
from blip2_serve.tasks.completion import CompletedRequest
from blip2_serve.tasks.stream import CompletionStream, StreamPart


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
