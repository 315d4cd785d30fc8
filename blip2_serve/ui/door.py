"""Let only the page's own requests through to gradio; its other routes answer 404.

Gradio 6.31 fetches URLs and proxies for any caller, lists and calls its functions, and, mounted on another application,
copies any local file that a call names (`processing_utils._check_allowed` acts only when gradio runs its own server).
Pictures are received and shown here, not by gradio, which bounds neither their number nor their bytes together.
"""

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.errors import error_response
from blip2_serve.api.forms import uploaded_files
from blip2_serve.api.middleware.held_body import Headers, HeldBody
from blip2_serve.clients import current_client
from blip2_serve.errors import Blip2Error, InvalidField
from blip2_serve.ui.calls import MAX_CALL_BYTES, Calls
from blip2_serve.ui.uploads import Uploads

_API = "/gradio_api"
_FILE = f"{_API}/file="
_READ = re.compile(rf"/|/theme\.css|/(assets|static)/.+|{_API}/(theme\.css|queue/data)", re.DOTALL)
# Gradio links a manifest at the root of the host, outside this page.
_ROOT_LINK = b'<link rel="manifest" href="/manifest.json" />'
_OWN_LINK = b'<link rel="icon" href="data:," />'
# Gradio names files and calls by the root it is told of; the page alone knows under which path it was loaded.
_RELATIVE_ROOT = (b"x-gradio-server", b".")
_ROOT, _ROOT_OF_PAGE = (
    b'"root":"."};',
    b'"root":"."};window.gradio_config.root=new URL(".",location.href).href.slice(0,-1);',
)
_INLINE_SCRIPT = re.compile(rb"<script(?: data-gradio-mode)?>(.*?)</script>", re.DOTALL)
# The page sends one picture at a time.
_MAX_FILES = 4


class Door:
    """ASGI middleware around gradio's application; works under any mount path."""

    def __init__(
        self, app: ASGIApp, uploads: Uploads, calls: Calls, on_visit: Callable[[], None], frame_policy: str
    ) -> None:
        """`on_visit` is called before every request; `frame_policy` says which pages may show this one inside."""
        self._app = app
        self._uploads = uploads
        self._calls = calls
        self._on_visit = on_visit
        self._frame_policy = frame_policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the page's own requests on; answer everything else 404."""
        if scope["type"] != "http":
            return
        self._on_visit()
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        scope = {**scope, "path": path, "root_path": "", "headers": _with_relative_root(scope["headers"])}
        try:
            if scope["method"] == "POST":
                await self._post(path, scope, receive, send)
            elif scope["method"] in ("GET", "HEAD"):
                await self._read(path, scope, receive, send)
            else:
                await _nothing_here(scope, receive, send)
        except Blip2Error as error:
            await _shown(error)(scope, receive, send)

    async def _post(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        call = path.removeprefix(_API)
        if path == f"{_API}/upload":
            await (await self._keep(Request(scope, receive)))(scope, receive, _with_headers(send, _NOTHING))
        elif path.startswith(_API) and Calls.are_made_at(call):
            body = self._calls.checked(call, await _body(receive))
            scope = {**scope, "headers": _with_length(scope["headers"], len(body)), CLIENT: current_client.get()}
            await self._app(scope, _replayed(body, receive), _with_headers(send, _NOTHING))
        else:
            await _nothing_here(scope, receive, send)

    async def _read(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if path == "/":
            plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
            await self._app({**scope, "headers": plain}, receive, HeldBody(send, self._as_served).send)
        elif path.startswith(_FILE) and self._uploads.holds(path.removeprefix(_FILE)):
            await FileResponse(path.removeprefix(_FILE))(scope, receive, _with_headers(send, _NOTHING))
        elif path == f"{_API}/upload_progress":
            await Response(_IS_RECEIVED, media_type="text/event-stream")(scope, receive, send)
        elif _READ.fullmatch(path):
            await self._app(scope, receive, _with_headers(send, _NOTHING))
        else:
            await _nothing_here(scope, receive, send)

    def _as_served(self, _status: int, body: bytes) -> tuple[bytes, Headers]:
        """List the page's inline scripts in its policy by hash; they vary with the page's address."""
        page = body.replace(_ROOT_LINK, _OWN_LINK).replace(_ROOT, _ROOT_OF_PAGE)
        hashes = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE_SCRIPT.findall(page))
        scripts = " ".join(f"'sha256-{each}'" for each in hashes)
        return page, _headers(_policy(scripts, self._frame_policy))

    async def _keep(self, request: Request) -> JSONResponse:
        """Keep a visitor's pictures; answer their paths as gradio does."""
        client, files = current_client.get(), await uploaded_files(request, _MAX_FILES)
        kept = [str(await asyncio.to_thread(self._uploads.keep, client, *file)) for file in files]
        return JSONResponse(kept)


CLIENT = "blip2_serve.client"
"""The key of a call's scope under which its client stands: gradio runs the call later, in a context of its own."""

# Progress is not followed: it is a second request for every picture, which polls.
_IS_RECEIVED = 'data: {"msg": "done"}\n\n'
_nothing_here = PlainTextResponse(status_code=404)


async def _body(receive: Receive) -> bytearray:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_CALL_BYTES:
            raise InvalidField(f"The texts have more than {MAX_CALL_BYTES} bytes: shorten them.")
    return body


def _with_relative_root(headers: Headers) -> Headers:
    kept = [(name, value) for name, value in headers if name not in (b"x-forwarded-host", _RELATIVE_ROOT[0])]
    return [*kept, _RELATIVE_ROOT]


def _with_length(headers: Headers, length: int) -> Headers:
    kept = [(name, value) for name, value in headers if name not in (b"content-length", b"transfer-encoding")]
    return [*kept, (b"content-length", str(length).encode())]


def _shown(error: Blip2Error) -> JSONResponse:
    """Answer in the usual shape, with the message also under `detail`, which gradio's page shows."""
    return error_response(error, more={"detail": error.message})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Build a `receive` that returns the consumed body first, then the messages after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return messages.pop() if messages else await receive()

    return replaying


def _policy(script_hashes: str, frame_policy: str) -> str:
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
            f"frame-ancestors {frame_policy}",
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
