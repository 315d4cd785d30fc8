"""Refuse a request before its body is read, where there is no room for even the cheapest."""

from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Receive, Scope, Send


class EarlyRefusal:
    """ASGI middleware: call `check_room`, which raises Busy, before a POST to one of `paths`."""

    def __init__(self, app: ASGIApp, check_room: Callable[[], None], paths: Collection[str]) -> None:
        self._app = app
        self._check_room = check_room
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; ErrorShape answers what `check_room` raises."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._paths:
            self._check_room()
        await self._app(scope, receive, send)
