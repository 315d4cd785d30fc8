"""How much a stranger may send: a limit on the body of every request, whether it says its length or not."""

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.errors import error_response
from blip2_serve.errors import ImageTooLarge


class BodyLimit:
    """ASGI middleware: answers 413 to a body over the limit, before reading it where its length is declared."""

    def __init__(self, app: ASGIApp, max_bytes: Callable[[], int]) -> None:
        """`max_bytes` is asked once, when the server starts: settings must not be read when this is imported."""
        self._app = app
        self._max_bytes = max_bytes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _declared_length(scope) > self._max_bytes:
            await error_response(self._too_large())(scope, receive, send)
        else:
            await self._app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> ImageTooLarge:
        return ImageTooLarge(
            f"The request has more than the {self._max_bytes} bytes that are taken: send a smaller picture."
        )


def _declared_length(scope: Scope) -> int:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
