"""Render a whole answer, or its events, as JSON."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from pydantic import BaseModel

from blip2_serve.api.errors import error_body, public_error
from blip2_serve.api.openai.answers import tokens_json
from blip2_serve.api.openai.responses.answers import OutputMessage, OutputText, ResponseAnswer, new_id, status_of
from blip2_serve.api.openai.responses.items import FIELDS
from blip2_serve.tasks.completion import CompletedRequest, CompletionPiece
from blip2_serve.tasks.stream import CompletionStream

_NO_TOKENS = '"logprobs":[]'


def _with_tokens(rendered: str, tokens: str) -> str:
    # Quotes inside of texts are escaped, so that nothing a text says is replaced.
    return rendered.replace(_NO_TOKENS, f'"logprobs":{tokens}', 1)


def response_json(begun: ResponseAnswer, done: CompletedRequest, *, logprobs: bool) -> str:
    """Render what `ResponseAnswer` describes."""
    (completed,) = done.completions
    message = OutputMessage(id=new_id("msg"), status=status_of(completed), content=[OutputText(text=completed.text)])
    whole = begun.ended(message, done).model_dump_json()
    return _with_tokens(whole, tokens_json(completed.tokens)) if logprobs else whole


class Events:
    """Build the events of one stream, numbered from 0: those that begin it, a delta per token, those that end it.

    An error after the first token is an event `error`, the last.
    """

    def __init__(self, begun: ResponseAnswer, *, logprobs: bool) -> None:
        self._begun = begun
        self._logprobs = logprobs
        self._item_id = new_id("msg")
        self._num_events = 0

    async def events(self, stream: CompletionStream) -> AsyncGenerator[str, None]:
        """Yield the events of a stream that has started; those that are there at once go out together."""
        ready = self._first()
        try:
            async for part in stream:
                if isinstance(part, CompletedRequest):  # 256 tokens with 20 likely ones at each place take a while
                    ready += await asyncio.to_thread(self._last, part)
                else:
                    ready += self._delta(part)
                if not stream.has_more_at_hand:
                    yield "".join(ready)
                    ready.clear()
            if ready:
                yield "".join(ready)
        except Exception as error:
            yield "".join([*ready, self._error(error)])

    def _first(self) -> list[str]:
        message = OutputMessage(id=self._item_id, status="in_progress")
        return [
            self._event("response.created", response=self._begun),
            self._event("response.in_progress", response=self._begun),
            self._event("response.output_item.added", output_index=0, item=message),
            self._event("response.content_part.added", **self._place(), part=OutputText()),
        ]

    def _delta(self, piece: CompletionPiece) -> list[str]:
        tokens = (piece.token,) if self._logprobs and piece.token else ()
        if not piece.text and not tokens:
            return []
        delta = self._event("response.output_text.delta", **self._place(), delta=piece.text, logprobs=[])
        return [_with_tokens(delta, tokens_json(tokens))]

    def _last(self, done: CompletedRequest) -> list[str]:
        (completed,) = done.completions
        status, text = status_of(completed), OutputText(text=completed.text)
        message = OutputMessage(id=self._item_id, status=status, content=[text])
        tokens = tokens_json(completed.tokens if self._logprobs else ())
        last = [
            self._event("response.output_text.done", **self._place(), text=completed.text, logprobs=[]),
            self._event("response.content_part.done", **self._place(), part=text),
            self._event("response.output_item.done", output_index=0, item=message),
            self._event(f"response.{status}", response=self._begun.ended(message, done)),
        ]
        return [_with_tokens(event, tokens) for event in last]

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> str:
        said = {"type": kind, "sequence_number": self._num_events, **fields}
        self._num_events += 1
        told = json.dumps(said, separators=(",", ":"), default=_plain)
        return f"event: {kind}\ndata: {told}\n\n"

    def _error(self, error: Exception) -> str:
        """Tell an error twice: as events of this protocol have it, and as OpenAI's clients look for it."""
        body = error_body(public_error(error), FIELDS)["error"]
        said = {name: body[name] for name in ("code", "message", "param")}
        return self._event("error", **said, error=body)


def _plain(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json")
