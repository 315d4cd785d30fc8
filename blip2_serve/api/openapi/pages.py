"""Serve the OpenAPI document at /docs.json and the page at / that shows it, in place of BentoML 1.4.40's.

BentoML's document describes its own errors and fields, and its page loads an analytics script from another host. Our
page is Swagger's, from the files in BentoML's wheel; its Content-Security-Policy makes browsers refuse other hosts.
"""

import base64
import hashlib
import json

from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from blip2_serve.api.middleware.held_body import Headers, HeldBody
from blip2_serve.api.openapi.document import described

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
# The style sheet has Swagger's icons as data: URLs.
_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'sha256-{_SCRIPT_HASH}'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Documents:
    """ASGI middleware: answer GET and HEAD of /, and rewrite BentoML's /docs.json."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else through untouched."""
        if scope["type"] == "http" and scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            await HTMLResponse(_HTML, headers=_HEADERS)(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"].endswith("/docs.json"):
            send = HeldBody(send, _rewrite).send
        await self._app(scope, receive, send)


def _rewrite(status: int, body: bytes) -> tuple[bytes, Headers]:
    return (json.dumps(described(json.loads(body))).encode() if status == 200 else body), []
