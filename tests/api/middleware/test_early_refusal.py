"""A server with enough to do refuses before it reads a body."""

import asyncio

import httpx
from starlette.types import Message, Receive, Scope, Send

from blip2_serve.api.errors import ErrorShape
from blip2_serve.api.middleware.early_refusal import EarlyRefusal
from blip2_serve.errors import Busy


def full() -> None:
    raise Busy("Later.", retry_after_s=3.0)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answered"})


def status_of(method: str, path: str) -> int:
    async def call() -> int:
        transport = httpx.ASGITransport(ErrorShape(EarlyRefusal(answer, full, ["/generate"])))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.request(method, path)).status_code

    return asyncio.run(call())


def test_only_requests_for_the_model_are_refused() -> None:
    assert [status_of("POST", "/generate"), status_of("GET", "/generate"), status_of("POST", "/ui/")] == [429, 200, 200]


def test_the_body_of_a_refused_request_is_not_read() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    app = ErrorShape(EarlyRefusal(answer, full, ["/generate"]))
    scope = {"type": "http", "method": "POST", "path": "/generate", "headers": []}
    asyncio.run(app(scope, receive, send))
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"retry-after"]) == (429, b"3")
