"""Metrics for the paths that exist; BentoML's make a new series of every path that a stranger thinks of."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

Middleware = Callable[..., Callable[[Scope, Receive, Send], Awaitable[None]]]


class KnownPaths:
    """ASGI middleware: applies `metered`, another middleware, to requests for `paths` and to no others.

    Prometheus keeps a series for ever, in memory and in the files that its processes share.
    """

    def __init__(self, app: ASGIApp, metered: Middleware, paths: frozenset[str], **options: Any) -> None:
        self._app = app
        self._metered = metered(app, **options)
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, metered or not."""
        app = self._metered if scope.get("path") in self._paths else self._app
        await app(scope, receive, send)
