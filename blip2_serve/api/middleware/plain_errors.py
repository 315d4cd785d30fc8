"""Answer errors of some protocols as `{"error": "text", ...}`, which is what their clients show."""

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.middleware.held_body import Headers, HeldBody

PREFIXES = ("/api/", "/hf/")


class PlainError(BaseModel):
    """Every error below /api and /hf."""

    model_config = ConfigDict(extra="forbid")

    error: str = Field(description="what went wrong and what to do next")
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None = Field(description="the field at fault")
    code: str = Field(description="stable, for programs")


class PlainErrors:
    """ASGI middleware: put the message of an error below PREFIXES in place of our error object.

    Ollama's clients and the Hugging Face Hub's take `error` for the text; those in Go cannot read an object at all.
    `type`, `param` and `code` stand beside it. Outside of all layers that answer errors.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else through untouched."""
        if scope["type"] == "http" and scope["path"].startswith(PREFIXES):
            send = _HeldErrors(send).send
        await self._app(scope, receive, send)


class _HeldErrors:
    """Hold an answer back if it is an error, so that its body can be rewritten."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held = HeldBody(send, _plain)
        self._is_error = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_error = message["status"] >= 400
        await (self._held.send if self._is_error else self._send)(message)


def _plain(status: int, body: bytes) -> tuple[bytes, Headers]:
    try:
        error = json.loads(body)["error"]
        plain = {"error": error.pop("message"), **error}
    except (ValueError, KeyError, TypeError, AttributeError):
        return body, []  # HEAD has no body
    return json.dumps(plain).encode(), []
