"""The application mounted at /mcp: what is checked before a message is read, and when the protocol's library is loaded.

The library takes a second to import, so the first request loads it, and servers that nobody asks by MCP never do.
"""

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from blip2_serve.api.disconnect import while_connected
from blip2_serve.api.errors import error_response, public_error
from blip2_serve.api.mcp.errors import json_rpc_error
from blip2_serve.api.mcp.hosts import check_hosts
from blip2_serve.api.mcp.message import CALL, MAX_MESSAGE_BYTES, read_message
from blip2_serve.api.middleware.body_limit import declared_bytes
from blip2_serve.config import Settings
from blip2_serve.errors import Blip2Error, NotInstalled
from blip2_serve.tasks.verbs import Tasks

if TYPE_CHECKING:
    from blip2_serve.api.mcp.server import ToolServer

_NOT_INSTALLED = "MCP is not installed here: pip install -r requirements-mcp.txt, or blip2-serve[mcp], and start again."

_ONLY_POST = JSONResponse(
    json_rpc_error(405, "Only POST is answered at /mcp: give this address to a client of MCP."), 405, {"Allow": "POST"}
)


class McpEndpoint:
    """An ASGI application that answers calls of tools; 404 where the package `mcp` is not installed."""

    def __init__(self, tasks: Tasks, settings: Settings) -> None:
        self._tasks = tasks
        self._names, self._origins = settings.mcp_names, settings.allowed_origins
        self._server: ToolServer | None = None
        self._opening = asyncio.Lock()
        self._is_installed = find_spec("mcp_types") is not None  # mcp 1 came without

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST; there is nothing to GET, because nothing is told unasked, and no session to DELETE."""
        if scope["type"] != "http":
            return
        if scope["path"].removeprefix(scope.get("root_path", "")) != "/":
            await PlainTextResponse(status_code=404)(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            self._check(request)
            if request.method == "POST":
                await self._answer(request, send)
            else:
                await _ONLY_POST(scope, receive, send)
        except Blip2Error as error:
            await error_response(public_error(error))(scope, receive, send)

    async def close(self) -> None:
        """End every call."""
        if self._server is not None:
            await self._server.close()

    def _check(self, request: Request) -> None:
        if not self._is_installed:
            raise NotInstalled(_NOT_INSTALLED)
        check_hosts(request.headers, self._names, self._origins)
        if declared_bytes(request.scope) > MAX_MESSAGE_BYTES or "transfer-encoding" in request.headers:
            self._tasks.check_room()  # the verbs ask it too, and tell the caller's model, but after reading the picture

    async def _answer(self, request: Request, send: Send) -> None:
        server = await self._opened()
        message, call = await read_message(request)
        scope = {**request.scope, "headers": _headers_for(request.scope, len(message)), CALL: call}
        await while_connected(request, server.answer(scope, _once(message), send))

    async def _opened(self) -> "ToolServer":
        async with self._opening:
            if self._server is None:
                self._server = (await asyncio.to_thread(_tool_server_class))(self._tasks)
                await self._server.open()
        return self._server


def _tool_server_class() -> "type[ToolServer]":
    from blip2_serve.api.mcp.server import ToolServer  # needs mcp

    return ToolServer


def _headers_for(scope: Scope, num_bytes: int) -> list[tuple[bytes, bytes]]:
    """Declare the length of a message whose picture has been taken out."""
    replaced = (b"content-length", b"transfer-encoding")
    kept = [(name, value) for name, value in scope["headers"] if name not in replaced]
    return [*kept, (b"content-length", str(num_bytes).encode())]


def _once(message: bytes) -> Receive:
    """Build a `receive` that hands over a whole body; whether the caller has left is watched elsewhere."""
    messages: list[Message] = [{"type": "http.request", "body": message, "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    return receive
