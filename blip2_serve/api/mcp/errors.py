"""Answer at one address, with JSON-RPC's errors: MCP's clients show the message of nothing else."""

import json
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from blip2_serve.api.middleware.held_body import Headers, HeldBody

PATH = "/mcp"
# JSON-RPC's numbers for "invalid request" and "internal error".
_INVALID_REQUEST, _INTERNAL_ERROR = -32600, -32603


class JsonRpcErrors:
    """ASGI middleware: answer errors at /mcp in JSON-RPC's shape, with ours as `data`; status and headers stay.

    The mount is at /mcp/, and a redirection there would have a picture sent twice: the path is rewritten instead.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else through untouched."""
        if scope["type"] != "http" or scope["path"] not in (PATH, f"{PATH}/"):
            await self._app(scope, receive, send)
            return
        await self._app({**scope, "path": f"{PATH}/"}, receive, HeldBody(send, _as_json_rpc).send)


def json_rpc_error(status: int, message: str, **data: object) -> dict[str, Any]:
    """Build the body of an error that is about no message in particular."""
    code = _INTERNAL_ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else _INVALID_REQUEST
    return {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message, "data": data}}


def _as_json_rpc(status: int, body: bytes) -> tuple[bytes, Headers]:
    error = _our_error(body) if status >= HTTPStatus.BAD_REQUEST else None
    return (body if error is None else json.dumps(json_rpc_error(status, **error)).encode()), []


def _our_error(body: bytes) -> dict[str, Any] | None:
    """Parse an error in our shape; None for JSON-RPC's own."""
    try:
        content = json.loads(body)
    except ValueError:
        return None
    return content["error"] if isinstance(content, dict) and "jsonrpc" not in content and "error" in content else None
