"""Bound the time that a caller may take to send a request and to read its answer."""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from typing import TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.errors import DeadlineExceeded

T = TypeVar("T")

# Nothing may come, or be taken, for so long,
MAX_PAUSE_S = 20.0
# and after as long again, the whole must have gone on at this pace: a picture of 20 MB has five minutes.
MIN_BYTES_PER_S = 65_536
# A larger piece of an answer would be handed over whole, however slowly it is read.
_PIECE = 65_536


class Pace:
    """ASGI middleware: refuse a body that comes too slowly, and drop the connection of whoever does not read.

    The `receive` that it passes on raises DeadlineExceeded where the body comes too slowly. A `send` that takes too
    long ends the connection: later messages go nowhere, and `receive` says that the caller has left.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        await self._app(scope, exchange.receive, exchange.send)


class _Clock:
    """Time that one direction may take; only waiting counts."""

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._num_bytes = 0

    async def wait(self, moving: Awaitable[T]) -> T:
        """Await `moving`.

        Raises:
            TimeoutError: the peer is too slow.
        """
        began = time.monotonic()
        earned_s = MAX_PAUSE_S + self._num_bytes / MIN_BYTES_PER_S
        try:
            async with asyncio.timeout(min(MAX_PAUSE_S, max(0.0, earned_s - self._waited_s))):
                return await moving
        finally:
            self._waited_s += time.monotonic() - began

    def count(self, num_bytes: int) -> None:
        """Count bytes that have got through."""
        self._num_bytes += num_bytes


class _Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._upload = _Clock()
        self._download = _Clock()
        self._is_received = False
        self._dropped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def receive(self) -> Message:
        if self._is_received:
            return await self._departure()
        try:
            message = await self._upload.wait(self._receive())
        except TimeoutError:
            raise DeadlineExceeded(
                f"The upload stood still for {MAX_PAUSE_S:g} s, or came at less than {MIN_BYTES_PER_S} bytes a second:"
                " send fewer bytes, or use a better line."
            ) from None
        self._upload.count(len(message.get("body", b"")))
        self._is_received = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        for piece in _pieces(message):
            if self._dropped.done():
                return
            try:
                await self._download.wait(self._send(piece))
            except TimeoutError:
                self._dropped.set_result(None)
            self._download.count(len(piece.get("body", b"")))

    async def _departure(self) -> Message:
        """Wait until the caller has left, by itself or because it was dropped."""
        leaving = asyncio.ensure_future(self._receive())
        try:
            await asyncio.wait((leaving, self._dropped), return_when=asyncio.FIRST_COMPLETED)
            return leaving.result() if leaving.done() else {"type": "http.disconnect"}
        finally:
            leaving.cancel()


def _pieces(message: Message) -> Iterator[Message]:
    """Cut a long body into several messages."""
    body = message.get("body", b"")
    if len(body) <= _PIECE:
        yield message
        return
    for start in range(0, len(body), _PIECE):
        is_last = start + _PIECE >= len(body)
        more = message.get("more_body", False) if is_last else True
        yield {"type": message["type"], "body": body[start : start + _PIECE], "more_body": more}
