"""Render whole completions as JSON, or as events: a chunk per token, the finish reason and `data: [DONE]`.

An error after the first token is `data: {"error": ...}` without [DONE].
"""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from blip2_serve.api.errors import error_body, public_error
from blip2_serve.api.openai.answers import Usage
from blip2_serve.api.openai.completions.answers import Offsets, TextChoice, TextCompletion
from blip2_serve.api.openai.completions.continuation import Continuation, GrowingContinuation
from blip2_serve.api.openai.completions.request import FIELDS
from blip2_serve.tasks.completion import CompletedRequest, Completion, CompletionPiece
from blip2_serve.tasks.stream import CompletionStream


@dataclass(frozen=True, slots=True)
class Telling:
    """How the answers to a request are told."""

    model: str
    continuation: Continuation
    logprobs: bool
    include_usage: bool

    def offsets(self) -> Offsets:
        """Begin to count the characters of an answer."""
        return Offsets(len(self.continuation.before), is_stripped=self.continuation.is_stripped)


def completion_json(telling: Telling, done: CompletedRequest) -> str:
    """Render the answers to a request."""
    choices = [_choice(telling, index, each) for index, each in enumerate(done.completions)]
    return TextCompletion(model=telling.model, choices=choices, usage=Usage.of(done)).model_dump_json()


def _choice(telling: Telling, index: int, completed: Completion) -> TextChoice:
    logprobs = telling.offsets().logprobs(completed.tokens) if telling.logprobs else None
    text = telling.continuation.whole(completed.text)
    return TextChoice(index=index, text=text, logprobs=logprobs, finish_reason=completed.finish_reason)


class TextChunks:
    """Build the events of one stream."""

    def __init__(self, telling: Telling, num_answers: int) -> None:
        self._telling = telling
        self._head = TextCompletion(model=telling.model)
        self._growing = [GrowingContinuation(telling.continuation) for _ in range(num_answers)]
        self._offsets = [telling.offsets() for _ in range(num_answers)]

    async def events(self, stream: CompletionStream) -> AsyncGenerator[str, None]:
        """Yield the events of a stream that has started; those that are there at once go out together."""
        ready = self._first()
        try:
            async for part in stream:
                ready += self._last(part) if isinstance(part, CompletedRequest) else self._piece(part)
                if ready and not stream.has_more_at_hand:
                    yield "".join(ready)
                    ready.clear()
            yield "".join([*ready, "data: [DONE]\n\n"])
        except Exception as error:
            yield "".join([*ready, f"data: {json.dumps(error_body(public_error(error), FIELDS))}\n\n"])

    def _first(self) -> list[str]:
        before = self._telling.continuation.before
        return [self._event(TextChoice(index=row, text=before)) for row in range(len(self._growing)) if before]

    def _piece(self, piece: CompletionPiece) -> list[str]:
        text = self._growing[piece.row].cut(piece.text)
        tokens = (piece.token,) if self._telling.logprobs and piece.token else ()
        if not text and not tokens:
            return []
        logprobs = self._offsets[piece.row].logprobs(tokens) if tokens else None
        return [self._event(TextChoice(index=piece.row, text=text, logprobs=logprobs))]

    def _last(self, done: CompletedRequest) -> list[str]:
        ends = enumerate(done.completions)
        events = [self._event(TextChoice(index=row, text="", finish_reason=each.finish_reason)) for row, each in ends]
        if not self._telling.include_usage:
            return events
        counted = self._head.model_copy(update={"usage": Usage.of(done)})
        return [*events, f"data: {counted.model_dump_json()}\n\n"]

    def _event(self, choice: TextChoice) -> str:
        chunk = self._head.model_copy(update={"choices": [choice]})
        return f"data: {chunk.model_dump_json(exclude={'usage'})}\n\n"
