"""Put the remarks that were made on a request into the headers of its answer."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.remarks import current_remarks


class Remarks:
    """ASGI middleware: collects `remarks` in the request's context. A stream's are those made before it begins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        remarks: dict[str, str] = {}
        current_remarks.set(remarks)

        async def send_with_remarks(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(remarks)
            await send(message)

        return await self._app(scope, receive, send_with_remarks)
