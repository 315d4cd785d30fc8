"""Limit the bytes of each request body, declared or not, of a client's bodies, and of all in flight together."""

from collections import Counter
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.errors import error_response
from blip2_serve.clients import current_client
from blip2_serve.engine.shares import leaves_room
from blip2_serve.errors import Busy, ImageTooLarge
from blip2_serve.memory import FreedMemory

# Body bytes of all requests that are being received or answered.
MAX_BYTES_IN_FLIGHT = 2**30


class BodyLimit:
    """ASGI middleware: answer 413 to a body over the limit, unread when its declared length is too large.

    `MAX_BYTES_IN_FLIGHT` bounds all bodies together, and no client may take all of it (see `shares.leaves_room`); a
    request that would exceed either is answered 429.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: Callable[[], int], other_paths: Mapping[str, Callable[[], int]] | None = None
    ) -> None:
        """Read `max_bytes` once, at server start: importing the service must not read the settings.

        `other_paths` maps a path to a limit of its own.
        """
        self._app = app
        self._max_bytes = max_bytes()
        self._other_paths = {path: limit() for path, limit in (other_paths or {}).items()}
        self._in_flight: Counter[str] = Counter()
        self._freed = FreedMemory()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts bytes.

        That `receive` raises ImageTooLarge over the limit, and Busy where there is no room for more bytes.
        """
        max_bytes = self._other_paths.get(scope.get("path", ""), self._max_bytes)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if declared_bytes(scope) > max_bytes:
            await error_response(_too_large(max_bytes))(scope, receive, send)
            return
        received, client = 0, current_client.get()

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            if received + size > max_bytes:
                raise _too_large(max_bytes)
            self._take(client, size)
            received += size
            return message

        try:
            await self._app(scope, counting, send)
        finally:
            self._give_back(client, received)

    def _take(self, client: str, num_bytes: int) -> None:
        num_free = MAX_BYTES_IN_FLIGHT - self._in_flight.total() - num_bytes
        if num_free < 0 or not leaves_room(self._in_flight[client], num_bytes, num_free):
            raise Busy("Too many pictures are being sent at once: try again in a second.", retry_after_s=1.0)
        self._in_flight[client] += num_bytes

    def _give_back(self, client: str, num_bytes: int) -> None:
        self._in_flight[client] -= num_bytes
        if not self._in_flight[client]:
            del self._in_flight[client]
        self._freed.note(num_bytes)


def _too_large(max_bytes: int) -> ImageTooLarge:
    return ImageTooLarge(f"The request has more than the {max_bytes} bytes that are taken: send a smaller picture.")


def declared_bytes(scope: Scope) -> int:
    """Return the Content-Length in bytes; 0 where none is declared."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
