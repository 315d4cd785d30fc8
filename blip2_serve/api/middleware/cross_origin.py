"""Let pages on other origins call the server, where BLIP2_CORS_ORIGINS names them."""

from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
# Chromium remembers no preflight for longer.
_MAX_AGE_S = 7200


def _allowing(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Wrap `app` in Starlette's CORS; without credentials, so that "*" stands for every header of an answer."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=("*",),
        expose_headers=("*",),
        allow_private_network="*" not in origins,
        max_age=_MAX_AGE_S,
    )


class CrossOrigin:
    """ASGI middleware, outermost: let a page on one of `origins` read every answer, errors and refusals too.

    Preflights pass: `Preflights` answers them further in, where they are counted and logged.
    """

    def __init__(self, app: ASGIApp, origins: Callable[[], Sequence[str]]) -> None:
        """Read `origins` once, at server start: importing the service must not read the settings."""
        self._app = app
        self._allowing = _allowing(app, origins())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add to its answer what the browser asks for."""
        await (self._app if _is_preflight(scope) else self._allowing)(scope, receive, send)


class Preflights:
    """ASGI middleware: answer the questions that browsers ask before a request from one of `origins`."""

    def __init__(self, app: ASGIApp, origins: Callable[[], Sequence[str]]) -> None:
        """Read `origins` once, as `CrossOrigin` does."""
        self._app = app
        self._answering = _allowing(app, origins())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight; pass everything else on."""
        await (self._answering if _is_preflight(scope) else self._app)(scope, receive, send)


def _is_preflight(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "OPTIONS":
        return False
    headers = Headers(scope=scope)
    return "origin" in headers and "access-control-request-method" in headers
