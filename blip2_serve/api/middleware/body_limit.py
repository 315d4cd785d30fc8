"""How much strangers may send: a limit on every body, whether it says its length or not, and on all of them."""

from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.errors import error_response
from blip2_serve.errors import Busy, ImageTooLarge

# Bytes of bodies that may be held at once, by requests that are being received or answered.
MAX_BYTES_IN_FLIGHT = 2**30


class BodyLimit:
    """ASGI middleware: 413 to a body over the limit, before reading it where its length is declared.

    All bodies together are bounded by `MAX_BYTES_IN_FLIGHT`; who would exceed that is answered 503.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: Callable[[], int], other_paths: Mapping[str, Callable[[], int]] | None = None
    ) -> None:
        """`max_bytes` is asked once, when the server starts: settings must not be read when this is imported.

        `other_paths` have limits of their own.
        """
        self._app = app
        self._max_bytes = max_bytes()
        self._other_paths = {path: limit() for path, limit in (other_paths or {}).items()}
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
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
    """The length that a request says its body has; 0 where it says none."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
