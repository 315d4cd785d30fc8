"""The OpenAPI page says what this service, its errors and its fields really are; BentoML's describes its own."""

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.spec.document import described


class DescribedApi:
    """ASGI middleware: rewrites BentoML's /docs.json on its way out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else through untouched."""
        if scope["type"] == "http" and scope["path"].endswith("/docs.json"):
            send = _Rewriting(send).send
        await self._app(scope, receive, send)


class _Rewriting:
    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if not message.get("more_body", False):
            await self._release()

    async def _release(self) -> None:
        body = bytes(self._body)
        if self._start["status"] == 200:
            body = json.dumps(described(json.loads(body))).encode()
        headers = [(name, value) for name, value in self._start["headers"] if name != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
