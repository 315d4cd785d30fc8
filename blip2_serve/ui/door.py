"""Let only the page's own requests through to gradio; its other routes answer 404.

Gradio 6.31 fetches URLs and proxies for any caller, lists and calls its functions, and, mounted on another application,
copies any local file that a call names (`processing_utils._check_allowed` acts only when gradio runs its own server).
"""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterator

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.errors import error_body
from blip2_serve.api.middleware.body_limit import declared_bytes
from blip2_serve.api.middleware.held_body import Headers, HeldBody
from blip2_serve.errors import Blip2Error, InvalidField, InvalidImage, Part, RequestError
from blip2_serve.ui.uploads import Uploads

_API = "/gradio_api"
_FILE = f"{_API}/file="
_UPLOAD = f"{_API}/upload"
_CALLS = {f"{_API}/queue/join", f"{_API}/cancel", f"{_API}/reset"}
_READ = re.compile(
    rf"/|/theme\.css|/(assets|static)/.+|{_API}/(theme\.css|queue/data|upload_progress)|{re.escape(_FILE)}.+",
    re.DOTALL,
)
# A call carries texts and the path of a picture; the picture itself is uploaded.
MAX_CALL_BYTES = 2**20
# Gradio links a manifest at the root of the host, outside this page.
_ROOT_LINK = b'<link rel="manifest" href="/manifest.json" />'
_OWN_LINK = b'<link rel="icon" href="data:," />'
_INLINE_SCRIPT = re.compile(rb"<script(?: data-gradio-mode)?>(.*?)</script>", re.DOTALL)


class Door:
    """ASGI middleware around gradio's application; works under any mount path."""

    def __init__(self, app: ASGIApp, uploads: Uploads) -> None:
        self._app = app
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the page's own requests on; answer everything else 404."""
        if scope["type"] != "http":
            return
        path, method = scope["path"].removeprefix(scope.get("root_path", "")), scope["method"]
        try:
            if method in ("GET", "HEAD") and self._may_be_read(path):
                await self._read(path, scope, receive, send)
            elif method == "POST" and path == _UPLOAD:
                await asyncio.to_thread(self._uploads.make_room, declared_bytes(scope))
                await _received(self._app, scope, receive, _with_headers(send, _NOTHING))
            elif method == "POST" and path in _CALLS:
                body = await self._checked_call(receive)
                await self._app(scope, _replayed(body, receive), _with_headers(send, _NOTHING))
            else:
                await PlainTextResponse(status_code=404)(scope, receive, send)
        except RequestError as error:
            await _shown(error)(scope, receive, send)

    def _may_be_read(self, path: str) -> bool:
        if path.startswith(_FILE):
            return self._uploads.holds(path.removeprefix(_FILE))
        return _READ.fullmatch(path) is not None

    async def _read(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if path != "/":
            await self._app(scope, receive, _with_headers(send, _NOTHING))
            return
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        await self._app({**scope, "headers": plain}, receive, HeldBody(send, _with_hashed_scripts).send)

    async def _checked_call(self, receive: Receive) -> bytes:
        """Read a call and refuse one that names a file other than an upload: gradio would fetch or copy it."""
        body = bytearray()
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_CALL_BYTES:
                raise InvalidField(f"The texts have more than {MAX_CALL_BYTES} bytes: shorten them.")
        try:
            content = json.loads(body)
            named = list(_named_files(content))
        except (ValueError, RecursionError):
            raise InvalidField("The call is no JSON: load the page again.") from None
        if not all(self._uploads.holds(path) for path in named):
            raise InvalidImage("The picture is no longer here: choose it again.", about=Part.IMAGE)
        return bytes(body)


def _named_files(content: object) -> Iterator[object]:
    """Yield every value that gradio would take for a file's path, at any depth."""
    if isinstance(content, list):
        for value in content:
            yield from _named_files(value)
    elif isinstance(content, dict):
        if "path" in content:
            yield content["path"]
        for value in content.values():
            yield from _named_files(value)


def _shown(error: RequestError) -> JSONResponse:
    """Answer in the usual shape, with the message also under `detail`, which gradio's page shows."""
    return JSONResponse({**error_body(error), "detail": error.message}, error.status)


async def _received(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run `app`; when `receive` raises a `Blip2Error`, raise it again and drop the answer of `app`."""
    failure: Blip2Error | None = None

    async def receiving() -> Message:
        nonlocal failure
        try:
            return await receive()
        except Blip2Error as error:
            failure = error
            raise

    async def sending(message: Message) -> None:
        if failure is None:
            await send(message)

    await app(scope, receiving, sending)
    if failure is not None:
        raise failure


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Build a `receive` that returns the consumed body first, then the messages after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return messages.pop() if messages else await receive()

    return replaying


def _policy(script_hashes: str) -> str:
    """Allow this server only; gradio sets styles inline, and shows pictures as data: and blob: URLs."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' {script_hashes}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' blob:",
            "font-src 'self'",
            "connect-src 'self'",
            "base-uri 'self'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


# For all but the page itself: an uploaded file must not act as a page.
_NOTHING = "default-src 'none'; sandbox"


def _headers(policy: str) -> Headers:
    return [
        (b"content-security-policy", policy.encode()),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
    ]


def _with_headers(send: Send, policy: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *_headers(policy)]}
        await send(message)

    return sending


def _with_hashed_scripts(_status: int, body: bytes) -> tuple[bytes, Headers]:
    """List the page's inline scripts in its policy by hash; they vary with the page's address."""
    page = body.replace(_ROOT_LINK, _OWN_LINK)
    hashes = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE_SCRIPT.findall(page))
    return page, _headers(_policy(" ".join(f"'sha256-{each}'" for each in hashes)))
