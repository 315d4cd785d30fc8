"""A growing answer as server-sent events: the role, a chunk for every token, why it ended, and `data: [DONE]`.

What goes wrong after the first token is an event too, `data: {"error": ...}` without [DONE]: a stream that just ended
would look like an answer.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from blip2_serve.api.errors import error_body, public_error
from blip2_serve.api.openai.messages import FIELDS
from blip2_serve.api.openai.responses import ChatCompletionChunk, ChunkChoice, Delta, Logprobs, Usage
from blip2_serve.tasks.completion import CompletedRequest, CompletionPiece

Part = CompletionPiece | CompletedRequest
Pieces = AsyncGenerator[Part, None]


class EventStream(StreamingResponse):
    """Sends events; whoever stops listening closes their source, which ends the work for it at once."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str, None], headers: dict[str, str]) -> None:
        super().__init__(events, headers={**headers, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer until the end or until the caller leaves."""
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


class Chunks:
    """Makes the chunks of one stream."""

    def __init__(self, model: str, *, logprobs: bool, include_usage: bool) -> None:
        self._head = ChatCompletionChunk(model=model)
        self._logprobs = logprobs
        self._include_usage = include_usage

    async def events(self, first: Part, pieces: Pieces, num_answers: int) -> AsyncGenerator[str, None]:
        """The events of a stream whose first piece, `first`, is there already."""
        async with aclosing(pieces):
            try:
                for index in range(num_answers):
                    yield self._chunk(ChunkChoice(index=index, delta=Delta(role="assistant", content="")))
                async for piece in _chained(first, pieces):
                    for event in self._events_of(piece):
                        yield event
                yield "data: [DONE]\n\n"
            except Exception as error:
                yield f"data: {json.dumps(error_body(public_error(error), FIELDS))}\n\n"

    def _events_of(self, piece: Part) -> list[str]:
        if isinstance(piece, CompletedRequest):
            ends = enumerate(piece.completions)
            events = [self._chunk(ChunkChoice(index=row, finish_reason=each.finish_reason)) for row, each in ends]
            return [*events, self._usage(piece)] if self._include_usage else events
        told = Logprobs.of(piece.token) if self._logprobs and piece.token else None
        if not piece.text and told is None:
            return []
        return [self._chunk(ChunkChoice(index=piece.row, delta=Delta(content=piece.text), logprobs=told))]

    def _chunk(self, choice: ChunkChoice) -> str:
        return _event(self._head.model_copy(update={"choices": [choice]}))

    def _usage(self, done: CompletedRequest) -> str:
        return _event(self._head.model_copy(update={"usage": Usage.of(done)}))


async def _chained(first: Part, pieces: Pieces) -> AsyncIterator[Part]:
    yield first
    async for piece in pieces:
        yield piece


def _event(chunk: ChatCompletionChunk) -> str:
    said = chunk.model_dump(exclude_none=True)
    for choice in said["choices"]:
        choice.setdefault("finish_reason", None)  # null while it goes on, as OpenAI sends it
    return f"data: {json.dumps(said)}\n\n"
