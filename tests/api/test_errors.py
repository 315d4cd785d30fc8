"""Every error, in any layer, is answered in one shape."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from blip2_serve.api.errors import ErrorShape, answer_errors, error_body
from blip2_serve.api.middleware.body_limit import BodyLimit
from blip2_serve.errors import Busy, EngineFailure, InvalidField, Part


async def a_bug(request: Request) -> Response:
    raise KeyError("secret")


async def foreign_list(request: Request) -> Response:
    return JSONResponse([{"error": "no such thing"}], 418)


async def foreign_text(request: Request) -> Response:
    return PlainTextResponse("slow down", 429, {"Retry-After": "3"})


async def ours(request: Request) -> Response:
    return JSONResponse(error_body(InvalidField("Mend it.", about=Part.PROMPT)), 400)


async def reads(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


APP = ErrorShape(
    BodyLimit(
        Starlette(
            routes=[
                Route("/bug", a_bug),
                Route("/list", foreign_list),
                Route("/text", foreign_text),
                Route("/ours", ours),
                Route("/reads", reads, methods=["POST"]),
            ]
        ),
        max_bytes=lambda: 100,
    )
)


def ask(method: str, path: str, content: bytes | None = None) -> httpx.Response:
    async def call() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://x") as client:
            return await client.request(method, path, content=content)

    return asyncio.run(call())


def test_a_bug_is_a_500_that_tells_strangers_nothing() -> None:
    reply = ask("GET", "/bug")
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "server_error"
    assert "secret" not in reply.text


def test_the_words_of_other_layers_are_kept_in_our_shape() -> None:
    assert ask("GET", "/list").json()["error"] == {
        "message": "no such thing.",
        "type": "invalid_request_error",
        "param": None,
        "code": "i'm_a_teapot",
    }


def test_status_and_headers_of_other_layers_are_kept() -> None:
    reply = ask("GET", "/text")
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "3")
    assert reply.headers["content-type"] == "application/json"
    assert reply.json()["error"]["message"] == "slow down."


def test_our_own_errors_pass_untouched() -> None:
    assert ask("GET", "/ours").json() == error_body(InvalidField("Mend it.", about=Part.PROMPT))


def test_a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    assert ask("POST", "/reads", b"x" * 100).text == "100"
    assert ask("POST", "/reads", b"x" * 101).status_code == 413


def answered(error: Exception) -> Response:
    async def endpoint(service: object, fields: object, request: object) -> Response:
        raise error

    return asyncio.run(answer_errors(endpoint)(None, None, None))  # type: ignore[arg-type]


def test_busy_says_when_to_come_back() -> None:
    reply = answered(Busy("Try again.", retry_after_s=1.2))
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "2")
    assert b'"rate_limit_error"' in reply.body


def test_an_engine_failure_keeps_its_message() -> None:
    assert b"Once more." in answered(EngineFailure("Once more.")).body


def test_a_refusal_in_place_of_fields_is_answered_without_calling_the_endpoint() -> None:
    async def endpoint(service: object, fields: object, request: object) -> Response:
        pytest.fail("called")

    refusal = InvalidField("Mend it.", about=Part.PROMPT)
    assert asyncio.run(answer_errors(endpoint)(None, refusal, None)).status_code == 400
