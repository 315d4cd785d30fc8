"""Limit the bytes of each request body, declared or not, and of all bodies in flight together."""

from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.errors import error_response
from blip2_serve.errors import Busy, ImageTooLarge

# Body bytes of all requests that are being received or answered.
MAX_BYTES_IN_FLIGHT = 2**30


class BodyLimit:
    """ASGI middleware: answer 413 to a body over the limit, unread when its declared length is too large.

    `MAX_BYTES_IN_FLIGHT` bounds all bodies together; a request that would exceed it is answered 429.
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
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts bytes.

        That `receive` raises ImageTooLarge over the limit, and Busy over `MAX_BYTES_IN_FLIGHT`.
        """
        max_bytes = self._other_paths.get(scope.get("path", ""), self._max_bytes)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if declared_bytes(scope) > max_bytes:
            await error_response(_too_large(max_bytes))(scope, receive, send)
            return
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            self._in_flight += size
            if received > max_bytes:
                raise _too_large(max_bytes)
            if self._in_flight > MAX_BYTES_IN_FLIGHT:
                raise Busy("Too many pictures are being sent at once: try again in a second.", retry_after_s=1.0)
            return message

        try:
            await self._app(scope, counting, send)
        finally:
            self._in_flight -= received


def _too_large(max_bytes: int) -> ImageTooLarge:
    return ImageTooLarge(f"The request has more than the {max_bytes} bytes that are taken: send a smaller picture.")


def declared_bytes(scope: Scope) -> int:
    """Return the Content-Length in bytes; 0 where none is declared."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
