"""Each body and all bodies together are bounded; a body counts until its request ends."""

import asyncio

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from blip2_serve.api.errors import ErrorShape
from blip2_serve.api.middleware.body_limit import BodyLimit
from blip2_serve.clients import current_client


def statuses(num_requests: int) -> list[int]:
    """Send `num_requests` bodies of 60 bytes, answer them together, then send one more; return all statuses."""
    signal = asyncio.Event()

    async def held(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await signal.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"read"})

    async def call() -> list[int]:
        app = ErrorShape(BodyLimit(held, max_bytes=lambda: 100))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            calls = [asyncio.create_task(client.post("/", content=b"x" * 60)) for _ in range(num_requests)]
            await asyncio.sleep(0.05)
            signal.set()
            replies = [await each for each in calls]
            replies.append(await client.post("/", content=b"x" * 60))
        return [reply.status_code for reply in replies]

    return asyncio.run(call())


def test_bodies_that_are_too_much_together_are_answered_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blip2_serve.api.middleware.body_limit.MAX_BYTES_IN_FLIGHT", 150)
    assert statuses(3) == [200, 200, 429, 200]  # the last is sent after the others have ended


def test_a_path_may_have_a_limit_of_its_own() -> None:
    async def read(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"read"})

    async def call() -> list[int]:
        app = ErrorShape(BodyLimit(read, max_bytes=lambda: 100, other_paths={"/many": lambda: 200}))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            calls = [("/", 100), ("/", 101), ("/many", 101), ("/many", 200), ("/many", 201)]
            return [(await client.post(path, content=b"x" * size)).status_code for path, size in calls]

    assert asyncio.run(call()) == [200, 413, 200, 200, 413]


def test_whoever_fills_the_budget_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blip2_serve.api.middleware.body_limit.MAX_BYTES_IN_FLIGHT", 910)

    async def half_sent(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.sleep(0.1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"read"})

    async def call() -> tuple[int, list[int]]:
        app = ErrorShape(BodyLimit(half_sent, max_bytes=lambda: 100))

        async def status(client: str, size: int = 100) -> int:
            current_client.set(client)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
                return (await http.post("/", content=b"x" * size)).status_code

        greedy = [asyncio.create_task(status("greedy")) for _ in range(12)]
        await asyncio.sleep(0.05)
        modest = await status("modest", 10)
        return modest, [await each for each in greedy]

    modest, greedy = asyncio.run(call())
    assert modest == 200
    assert sorted(greedy) == [200] * 8 + [429] * 4
