"""A caller that sends or reads too slowly is let go; one that takes its time within bounds is not."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.errors import ErrorShape
from blip2_serve.api.middleware import pace
from blip2_serve.api.middleware.pace import Pace

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MAX_PAUSE_S", 0.2)
    monkeypatch.setattr(pace, "MIN_BYTES_PER_S", 10_000)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


def status_of_upload(chunks: list[bytes], pause_s: float) -> int:
    """Send the chunks with a pause before each; return the status of the answer."""
    sent: list[Message] = []
    left = list(chunks)

    async def receive() -> Message:
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Pace(ErrorShape(echo))(dict(SCOPE), receive, send))
    return int(sent[0]["status"])


def test_a_body_that_comes_at_a_pace_is_taken() -> None:
    assert status_of_upload([b"x" * 1000] * 20, pause_s=0.02) == 200


@pytest.mark.parametrize(("chunks", "pause_s"), [([b"x", b"x"], 0.3), ([b"x"] * 100, 0.02)], ids=["stalls", "trickles"])
def test_a_body_that_does_not_is_answered_504(chunks: list[bytes], pause_s: float) -> None:
    assert status_of_upload(chunks, pause_s) == 504


def pieces_read(app: ASGIApp, pause_s: float, most: int = 1000) -> list[Message]:
    """Run `app` for a caller that takes `pause_s` for each message and stops reading after `most`."""
    read: list[Message] = []
    left = asyncio.Event()

    async def receive() -> Message:
        if not read:
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        await asyncio.sleep(pause_s if len(read) < most else 60)
        read.append(message)

    asyncio.run(asyncio.wait_for(Pace(app)(dict(SCOPE), receive, send), 5))
    return read


def test_a_long_answer_goes_out_in_pieces() -> None:
    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("x" * 200_000)(scope, receive, send)

    read = pieces_read(long, 0.0)
    assert b"".join(message.get("body", b"") for message in read) == b"x" * 200_000
    assert max(len(message.get("body", b"")) for message in read) <= 65_536
    assert not read[-1]["more_body"]


def test_an_answer_that_nobody_reads_is_dropped() -> None:
    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("x" * 2_000_000)(scope, receive, send)

    assert len(pieces_read(long, 0.0, most=2)) == 2


def test_a_stream_ends_with_the_reader_that_it_drops() -> None:
    closed = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await StreamingResponse(endless())(scope, receive, send)

    pieces_read(stream, 0.0, most=3)
    assert closed
