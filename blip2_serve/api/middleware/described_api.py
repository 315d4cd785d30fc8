"""The OpenAPI page says what this service, its errors and its fields really are; BentoML's describes its own."""

import json

from starlette.types import ASGIApp, Receive, Scope, Send

from blip2_serve.api.middleware.held_body import Headers, HeldBody
from blip2_serve.api.openapi.document import described


class DescribedApi:
    """ASGI middleware: rewrites BentoML's /docs.json on its way out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else through untouched."""
        if scope["type"] == "http" and scope["path"].endswith("/docs.json"):
            send = HeldBody(send, _rewrite).send
        await self._app(scope, receive, send)


def _rewrite(status: int, body: bytes) -> tuple[bytes, Headers]:
    return (json.dumps(described(json.loads(body))).encode() if status == 200 else body), []
