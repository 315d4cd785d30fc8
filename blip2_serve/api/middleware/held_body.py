"""Holds an answer back until its body is whole, so that it can be rewritten."""

from collections.abc import Callable

from starlette.types import Message, Send

Headers = list[tuple[bytes, bytes]]
Rewrite = Callable[[int, bytes], tuple[bytes, Headers]]


class HeldBody:
    """Collects the messages of an answer through its own `send`, and sends them rewritten after the last one.

    `rewrite` takes status and body, and returns the new body and headers to add.
    """

    def __init__(self, send: Send, rewrite: Rewrite) -> None:
        self._send = send
        self._rewrite = rewrite
        self._start: Message = {}
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        """Collect a message; after the last one send the answer."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if not message.get("more_body", False):
            await self._release()

    async def _release(self) -> None:
        body, headers = self._rewrite(self._start["status"], bytes(self._body))
        kept = [(name, value) for name, value in self._start["headers"] if name != b"content-length"]
        length = [(b"content-length", str(len(body)).encode())] if body else []
        await self._send({**self._start, "headers": [*kept, *length, *headers]})
        await self._send({"type": "http.response.body", "body": body})
