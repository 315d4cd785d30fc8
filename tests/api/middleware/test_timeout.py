"""The traffic timeout ends what takes too long, and leaves nothing behind."""

import asyncio

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from blip2_serve.api.middleware.timeout import Timeout


def ask(seconds: float, *, begin_first: bool = False, timeout_s: float = 0.05) -> tuple[httpx.Response, int]:
    """The answer of an application that takes `seconds`, and how many timers are left in the loop."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if begin_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(seconds)
        if not begin_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def call() -> tuple[httpx.Response, int]:
        transport = httpx.ASGITransport(Timeout(application, timeout_s))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            reply = await client.get("/")
        timers = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        return reply, len(timers)

    return asyncio.run(call())


def test_what_takes_too_long_is_a_504_in_our_shape() -> None:
    reply, _ = ask(5)
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")


def test_an_answer_that_has_begun_may_take_its_time() -> None:
    reply, _ = ask(0.15, begin_first=True)
    assert reply.text == "done"


@pytest.mark.parametrize("begin_first", [True, False])
def test_no_timer_outlives_its_request(begin_first: bool) -> None:
    reply, timers = ask(0, begin_first=begin_first, timeout_s=3600)
    assert (reply.text, timers) == ("done", 0)
