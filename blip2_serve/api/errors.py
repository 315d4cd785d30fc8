"""Answer every error in one JSON shape: our tree, BentoML's errors, Starlette's 404 and 405, and plain bugs."""

import functools
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from http.client import responses
from types import MappingProxyType
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.errors import Blip2Error, Busy, Part

logger = logging.getLogger(__name__)

ServiceT = TypeVar("ServiceT")
FieldsT = TypeVar("FieldsT")
ReplyT = TypeVar("ReplyT")
_MAX_ERROR_BYTES = 65_536

ErrorBody = dict[str, dict[str, str | None]]
FieldNames = Mapping[Part, str]
NATIVE_FIELDS: FieldNames = {
    Part.IMAGE: "img",
    Part.IMAGE_ID: "img_id",
    Part.PROMPT: "txt",
    Part.CHOICES: "choices",
    Part.TEXTS: "texts",
}
BATCH_FIELDS: FieldNames = {**NATIVE_FIELDS, Part.IMAGE: "imgs"}


def error_response(
    error: Blip2Error, fields: FieldNames = NATIVE_FIELDS, more: Mapping[str, str] = MappingProxyType({})
) -> JSONResponse:
    """Build the HTTP answer to `error`; `fields` gives the protocol's field name for each part of a request.

    `more` stands beside the error in the body.
    """
    headers = {"Retry-After": str(math.ceil(error.retry_after_s))} if isinstance(error, Busy) else None
    return JSONResponse({**error_body(error, fields), **more}, error.status, headers)


def add_error_answers(
    app: FastAPI, fields: FieldNames, fields_at: Mapping[str, FieldNames] = MappingProxyType({})
) -> None:
    """Let a mounted application answer errors in our shape, with its protocol's field names.

    `fields_at` has the names of routes that call them otherwise.
    """

    async def answer_error(request: Request, error: Exception) -> Response:
        route = request.scope["route"].path
        return error_response(public_error(error), fields_at.get(route, fields))

    async def answer_bug(request: Request, error: Exception) -> Response:
        return error_response(unexpected_error())  # Starlette re-raises it, and `ErrorShape` logs it

    app.add_exception_handler(Blip2Error, answer_error)
    app.add_exception_handler(Exception, answer_bug)


def error_body(error: Blip2Error, fields: FieldNames = NATIVE_FIELDS) -> ErrorBody:
    """Build the JSON body in which every error is answered."""
    param = fields[error.about] if isinstance(error.about, Part) else error.about
    return _body(error.message, error.status, param, error.code)


def _body(message: str, status: int, param: str | None, code: str) -> ErrorBody:
    """Use the types that OpenAI's clients expect; lone surrogates, which JSON cannot carry, become "?"."""
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    said = {"message": message, "type": kind, "param": param, "code": code}
    return {"error": {name: text and text.encode("utf-8", "replace").decode() for name, text in said.items()}}


def answer_errors(
    endpoint: Callable[[ServiceT, FieldsT, Request], Awaitable[ReplyT]],
) -> Callable[[ServiceT, FieldsT | Blip2Error, Request], Awaitable[ReplyT | JSONResponse]]:
    """Answer the exception that an endpoint raises, or the error passed in place of its fields.

    BentoML would replace the messages of 5xx errors and could not send Retry-After.
    """

    @functools.wraps(endpoint)
    async def answered(service: ServiceT, fields: FieldsT | Blip2Error, request: Request) -> ReplyT | JSONResponse:
        try:
            if isinstance(fields, Blip2Error):
                raise fields
            return await endpoint(service, fields, request)
        except Exception as error:
            return error_response(public_error(error))

    return answered


def public_error(error: Exception) -> Blip2Error:
    """Convert `error` to one that is safe to show; log it when the server is at fault."""
    if not isinstance(error, Blip2Error):
        logger.error("a request failed", exc_info=error)
        return unexpected_error()
    if error.status >= 500:
        logger.warning("%s: %s", error.code, error.message)
    return error


def unexpected_error() -> Blip2Error:
    """Build the error that a caller sees for a plain bug."""
    return Blip2Error("The server failed on this request; its log says why.")


class ErrorShape:
    """ASGI middleware: rewrite the errors of other layers into our shape; keep their status and headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else through untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reply = _HeldErrors(scope, send)
        try:
            await self._app(scope, receive, reply.send)
        except Blip2Error as error:
            await error_response(error)(scope, receive, send)
        except Exception:
            logger.exception("%s %r failed", scope["method"], scope["path"][:256])
            if reply.passing:
                raise  # part of the answer is out: only a broken connection tells the client that the rest is missing
            if not reply.released:
                await error_response(unexpected_error())(scope, receive, send)


class _HeldErrors:
    """Hold back an error answer until its body is complete, then send it in our shape."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._held: Message | None = None
        self._body = bytearray()
        self.passing = False
        self.released = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._held = message
        elif self._held is None:
            self.passing = True
            await self._send(message)
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")[: _MAX_ERROR_BYTES - len(self._body)]
            if not message.get("more_body", False):
                await self._release(self._held)

    async def _release(self, start: Message) -> None:
        self.released = True
        body = bytes(self._body)
        if not _in_our_shape(body):
            body = _rewritten(self._scope, start["status"], body)
            start = {**start, "headers": _json_headers(start["headers"], len(body))}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def _in_our_shape(body: bytes) -> bool:
    content = _parsed(body)
    return isinstance(content, dict) and isinstance(content.get("error"), dict)


def _rewritten(scope: Scope, status: int, body: bytes) -> bytes:
    """Rewrite the error `body` of another layer; keep its text except for 404 and 405."""
    path, method = scope["path"][:128], scope["method"]
    phrase = responses.get(status, "Error")
    if status == HTTPStatus.NOT_FOUND:
        message = f"There is nothing at {path}: / lists the endpoints."
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"{method} is not answered at {path}: / lists what is."
    else:
        message = f"{(_foreign_message(body) or phrase).rstrip('.')}."
    return json.dumps(_body(message, status, None, phrase.lower().replace(" ", "_"))).encode()


def _foreign_message(body: bytes) -> str:
    content: Any = _parsed(body)
    if isinstance(content, list) and content:
        content = content[0]
    if isinstance(content, dict):
        content = content.get("error") or content.get("detail")
    return content if isinstance(content, str) else body.decode("utf-8", "replace").strip()[:512]


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _json_headers(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() not in (b"content-type", b"content-length")]
    return [*kept, (b"content-type", b"application/json"), (b"content-length", str(length).encode())]
