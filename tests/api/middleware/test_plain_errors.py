"""Errors as Ollama's clients and the Hub's show them: from any layer, below their prefixes only."""

import asyncio

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from blip2_serve.api.errors import error_response
from blip2_serve.api.middleware.plain_errors import PlainErrors
from blip2_serve.errors import Busy

BUSY = {"message": "Wait.", "type": "rate_limit_error", "param": None, "code": "busy"}


async def busy(scope: Scope, receive: Receive, send: Send) -> None:
    await error_response(Busy("Wait.", retry_after_s=3))(scope, receive, send)


def ask(app: ASGIApp, path: str) -> httpx.Response:
    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(PlainErrors(app)), base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(get())


@pytest.mark.parametrize("path", ["/api/chat", "/hf/image-to-text"])
def test_the_message_is_the_error_and_the_rest_stands_beside_it(path: str) -> None:
    reply = ask(busy, path)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "3")
    assert reply.json() == {"error": "Wait.", "type": "rate_limit_error", "param": None, "code": "busy"}


def test_other_paths_keep_our_shape() -> None:
    for path in ("/v1/chat/completions", "/apiary", "/generate"):
        assert (ask(busy, path)).json() == {"error": BUSY}


def test_answers_and_errors_of_no_shape_are_left_alone() -> None:
    assert (ask(JSONResponse({"error": {"message": "no"}}), "/api/chat")).json() == {"error": {"message": "no"}}
    assert (ask(PlainTextResponse("gone", 410), "/api/chat")).text == "gone"
