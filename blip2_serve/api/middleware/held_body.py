"""Hold an answer back until its body is complete, so that middleware can rewrite it."""

from collections.abc import Callable

from starlette.types import Message, Send

Headers = list[tuple[bytes, bytes]]
Rewrite = Callable[[int, bytes], tuple[bytes, Headers]]


class HeldBody:
    """Collect an answer through `send`; after its last message, rewrite the body and send the answer on.

    `rewrite` takes status and body, and returns the new body and the headers to add.
    """

    def __init__(self, send: Send, rewrite: Rewrite) -> None:
        self._send = send
        self._rewrite = rewrite
        self._start: Message = {}
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        """Hold `message`; on the last one, send the rewritten answer."""
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
