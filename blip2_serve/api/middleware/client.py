"""Tell every request's code which client it belongs to."""

from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from blip2_serve.clients import Network, client_of, current_client


class KnownClient:
    """ASGI middleware: set `current_client` for whatever runs in the request's context."""

    def __init__(self, app: ASGIApp, trusted_proxies: Callable[[], Sequence[Network]]) -> None:
        """Read `trusted_proxies` once, at server start: importing the service must not read the settings."""
        self._app = app
        self._trusted = trusted_proxies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            peer = scope.get("client")
            current_client.set(client_of(peer[0] if peer else None, self._forwarded_for(scope), self._trusted))
        await self._app(scope, receive, send)

    def _forwarded_for(self, scope: Scope) -> list[str]:
        if not self._trusted:
            return []
        values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return b",".join(values).decode("latin-1").split(",") if values else []
