"""Streams as lines, and an error that comes after the first token."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

from blip2_serve.api.ollama.answers import Writer
from blip2_serve.api.ollama.stream import lines
from blip2_serve.errors import DeadlineExceeded
from blip2_serve.tasks.completion import CompletedRequest, Completion, CompletionPiece
from blip2_serve.tasks.stream import CompletionStream, StreamPart

DONE = CompletedRequest((Completion("a b", (), "length"),), 7, 3, "0f", None, (), {"prepare": 0.25, "decode": 0.5})


class FixedStream:
    """Stand in for `CompletionStream`: its parts come one by one, then an error if there is one."""

    has_more_at_hand = False

    def __init__(self, *parts: StreamPart, error: Exception | None = None) -> None:
        self._parts, self._error = parts, error

    async def __aiter__(self) -> AsyncIterator[StreamPart]:
        for part in self._parts:
            yield part
        if self._error:
            raise self._error


def streamed(stream: FixedStream, *, is_chat: bool = False) -> list[dict[str, Any]]:
    async def collect() -> str:
        writer = Writer("m", is_chat=is_chat, logprobs=False)
        return "".join([line async for line in lines(cast(CompletionStream, stream), writer)])

    return [json.loads(line) for line in asyncio.run(collect()).splitlines()]


def test_pieces_then_an_end_with_counts_in_nanoseconds() -> None:
    pieces = CompletionPiece(0, "a", None), CompletionPiece(0, "", None), CompletionPiece(0, " b", None)
    *said, end = streamed(FixedStream(*pieces, DONE))
    assert [(line["response"], line["done"]) for line in said] == [("a", False), (" b", False)]
    del end["created_at"]
    assert end == {
        "model": "m",
        "response": "",
        "done": True,
        "done_reason": "length",
        "total_duration": 750_000_000,
        "load_duration": 0,
        "prompt_eval_count": 7,
        "prompt_eval_duration": 250_000_000,
        "eval_count": 3,
        "eval_duration": 500_000_000,
    }


def test_a_chats_pieces_are_messages() -> None:
    said, end = streamed(FixedStream(CompletionPiece(0, "a", None), DONE), is_chat=True)
    assert said["message"] == {"role": "assistant", "content": "a"}
    assert end["message"] == {"role": "assistant", "content": ""}


def test_an_error_after_the_first_token_is_a_line_of_text() -> None:
    stream = FixedStream(CompletionPiece(0, "a", None), error=DeadlineExceeded("Too late."))
    assert streamed(stream)[-1] == {"error": "Too late."}
