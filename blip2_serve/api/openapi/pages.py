"""Serve the OpenAPI document at /docs.json and the page at / that shows it, in place of BentoML 1.4.40's.

BentoML's document describes its own errors and fields, and its page loads an analytics script from another host. Our
page is Swagger's, from the files in BentoML's wheel; its Content-Security-Policy makes browsers refuse other hosts.
"""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.openapi.document import described

_PATHS = ("/", "/docs.json", "/schema.json")
# Unless validatorUrl is null, the page sends the service's address to swagger.io for a badge.
_SCRIPT = """
  window.onload = () => SwaggerUIBundle({
    url: "./docs.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null,
  });
"""
_HTML = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>blip2-serve</title>
<link rel="stylesheet" href="./static_content/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="swagger-ui"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script>{_SCRIPT}</script>
</body>
</html>
"""
_SCRIPT_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()


def _headers(frame_policy: str) -> dict[str, str]:
    """Allow this server only; the style sheet has Swagger's icons as data: URLs."""
    policy = (
        "default-src 'none'",
        f"script-src 'self' 'sha256-{_SCRIPT_HASH}'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        f"frame-ancestors {frame_policy}",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


class Documents:
    """ASGI middleware: answer GET and HEAD of / with our page, and of /docs.json and /schema.json from memory.

    BentoML makes those anew for every request, which takes tens of milliseconds. They never change while a server runs.
    """

    def __init__(self, app: ASGIApp, frame_policy: Callable[[], str]) -> None:
        """Read `frame_policy` once, at server start: importing the service must not read the settings."""
        self._app = app
        page = Document(_HTML.encode(), "text/html; charset=utf-8", _headers(frame_policy()))
        self._made: dict[str, Document] = {"/": page}
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else through untouched."""
        if scope["type"] != "http" or scope["path"] not in _PATHS or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        async with self._making:
            if scope["path"] not in self._made:
                self._made[scope["path"]] = await self._ask_bentoml(scope, receive)
        await self._made[scope["path"]](scope, receive, send)

    async def _ask_bentoml(self, scope: Scope, receive: Receive) -> "Document":
        body = bytearray()

        async def keep(message: Message) -> None:
            nonlocal body
            body += message.get("body", b"")

        await self._app({**scope, "method": "GET"}, receive, keep)
        made = json.loads(body)
        document = described(made) if scope["path"] == "/docs.json" else made
        return Document(json.dumps(document).encode(), "application/json")


class Document:
    """A body made once, with an ETag: whoever has it already is answered 304."""

    def __init__(self, body: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> None:
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        self._response = Response(body, headers={**(headers or {}), "ETag": etag}, media_type=media_type)
        self._not_modified = NotModifiedResponse(self._response.headers)
        self._etag = etag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET or HEAD."""
        known = Headers(scope=scope).get("if-none-match", "")
        is_known = self._etag in (tag.strip().removeprefix("W/") for tag in known.split(","))
        await (self._not_modified if is_known else self._response)(scope, receive, send)
