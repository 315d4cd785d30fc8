"""The OpenAPI page says what this service, its errors and its fields really are; BentoML's describes its own."""

import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve import __version__

_ERROR_SCHEMA = {
    "title": "Error",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "what went wrong and what to do next"},
                "type": {"type": "string", "enum": ["invalid_request_error", "server_error"]},
                "param": {"type": "string", "nullable": True, "description": "the field at fault"},
                "code": {"type": "string", "description": "stable, for programs"},
            },
        }
    },
}
_STATUSES = {
    "400": "A field is missing, unknown or out of bounds, or the picture is damaged",
    "404": "The picture of this id is not kept any more, or there is no such model",
    "413": "Too many bytes or pixels",
    "415": "The body's or the picture's format is not served",
    "500": "The server failed on this request",
    "503": "The server is busy or going down",
    "504": "The answer took longer than the deadline",
}
_FOREIGN_SCHEMAS = (
    *("InvalidArgument", "NotFound", "InternalServerError", "TaskStatusResponse"),  # BentoML's
    *("HTTPValidationError", "ValidationError"),  # FastAPI's
)


def describe_service(spec: dict[str, Any]) -> dict[str, Any]:
    """`spec` introduced as this service, without BentoML's text and badges from elsewhere; changes it in place."""
    spec["info"] = {
        "title": "blip2-serve",
        "version": __version__,
        "description": "Captions, answers and conversations about pictures, by BLIP-2.",
    }
    return spec


def describe_bodies(spec: dict[str, Any]) -> dict[str, Any]:
    """`spec` with the fields as a form takes them; changes it in place.

    Swagger's "Try it out" would fill in and send `default: null`, and send every field whose encoding is JSON as a
    file; of ours only lists are JSON, but those of files.
    """
    for item in spec["paths"].values():
        for kind, body in item.get("post", {}).get("requestBody", {}).get("content", {}).items():
            fields = body["schema"].get("properties", {})
            if kind != "application/json":
                lists = [name for name in fields if _is_list(fields[name])]
                body["encoding"] = {name: {"contentType": "application/json"} for name in lists}
            for field in fields.values():
                if field.get("default", "given") is None:
                    del field["default"]
    return spec


def _is_list(field: dict[str, Any]) -> bool:
    return field.get("type") == "array" and field.get("items", {}).get("format") != "binary"


def describe_errors(spec: dict[str, Any]) -> dict[str, Any]:
    """`spec` with the error responses of every endpoint replaced by ours; changes it in place."""
    schemas = spec["components"]["schemas"]
    for name in _FOREIGN_SCHEMAS:
        schemas.pop(name, None)
    schemas["Error"] = _ERROR_SCHEMA
    for item in spec["paths"].values():
        if "post" in item:
            responses = item["post"]["responses"]
            item["post"]["responses"] = {"200": responses["200"], **_error_responses()}
        if "get" in item:
            item["get"]["responses"].pop("422", None)  # FastAPI's; no path of ours is answered so
    return spec


def _error_responses() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": text, "content": content} for status, text in _STATUSES.items()}


def _described(spec: dict[str, Any]) -> dict[str, Any]:
    return describe_service(describe_bodies(describe_errors(spec)))


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
            body = json.dumps(_described(json.loads(body))).encode()
        headers = [(name, value) for name, value in self._start["headers"] if name != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
