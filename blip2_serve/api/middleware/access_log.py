"""Log one line per request. BentoML's access log prints raw paths, newlines included, and fails on odd headers."""

import logging
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

# Probes poll these every few seconds.
_SILENT_PATHS = {"/livez", "/readyz", "/healthz", "/metrics"}


class AccessLog:
    """ASGI middleware: log method, path (percent-encoded, so no caller can forge a line), status and milliseconds."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through; log each HTTP request when it ends."""
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
