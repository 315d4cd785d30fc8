"""Redirect to a path with or without its last slash by a relative URL, which holds behind any proxy.

Starlette names the host, and the path as it arrived: without the prefix that a proxy has taken away.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RelativeRedirects:
    """ASGI middleware: make such redirects relative; all others pass as they are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def sending(message: Message) -> None:
            if 300 <= message.get("status", 0) < 400:
                headers = MutableHeaders(scope=message)
                if "location" in headers:
                    headers["location"] = _relative(scope, headers["location"])
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)


def _relative(scope: Scope, location: str) -> str:
    path, target = scope["path"], urlsplit(location)
    name = target.path.rstrip("/").rsplit("/", 1)[-1]
    if target.netloc not in ("", Headers(scope=scope).get("host")):
        return location
    if target.path == f"{path}/":
        return target._replace(scheme="", netloc="", path=f"./{name}/").geturl()
    if f"{target.path}/" == path:
        return target._replace(scheme="", netloc="", path=f"../{name}").geturl()
    return location
