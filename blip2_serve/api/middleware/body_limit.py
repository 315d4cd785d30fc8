"""Limits on what a caller may send: on each body, with or without a declared length, and on all of them together."""

from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.errors import Busy, ImageTooLarge

# Bytes of bodies that may be held at once, by requests that are being received or answered.
MAX_BYTES_IN_FLIGHT = 2**30


class BodyLimit:
    """ASGI middleware: 413 for a body over the limit, before reading it where its length is declared.

    All bodies together are bounded by `MAX_BYTES_IN_FLIGHT`: a request that would exceed it is answered 503. Both are
    raised, for `api.errors.ErrorShape` to answer or for the endpoint that reads the body.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: Callable[[], int], other_paths: Mapping[str, Callable[[], int]] | None = None
    ) -> None:
        """Ask `max_bytes` once, when the server starts: settings must not be read when this is imported.

        `other_paths` have limits of their own.
        """
        self._app = app
        self._max_bytes = max_bytes()
        self._other_paths = {path: limit() for path, limit in (other_paths or {}).items()}
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._other_paths.get(scope["path"], self._max_bytes)
        if declared_bytes(scope) > max_bytes:
            raise _too_large(max_bytes)
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


def declared_bytes(scope: Scope) -> int:
    """The Content-Length of a request; 0 where there is none that is a number."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0


def _too_large(max_bytes: int) -> ImageTooLarge:
    return ImageTooLarge(f"The request has more than the {max_bytes} bytes that are taken: send a smaller picture.")
