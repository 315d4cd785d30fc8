"""One line a request. BentoML's own access log prints paths raw, newlines included, and fails on odd headers."""

import logging
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

# Asked every few seconds by machines.
_SILENT_PATHS = {"/livez", "/readyz", "/healthz", "/metrics"}


class AccessLog:
    """ASGI middleware: logs method, path, status and milliseconds, in characters that a stranger cannot choose."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through."""
        if scope["type"] != "http" or scope["path"] in _SILENT_PATHS:
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            elapsed_ms = (time.perf_counter() - began) * 1000
            logger.info("%s %s %d %.1f ms", scope["method"], quote(scope["path"][:256]), status, elapsed_ms)
