"""A client that asks much for nothing waits; one that is answered does not, nor does anybody beside it."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from blip2_serve.api.middleware import throttle
from blip2_serve.api.middleware.throttle import BURST, PER_S, UPLOAD_BURST, UPLOAD_PER_S, Throttle
from blip2_serve.clients import current_client


class Clock:
    """Time that passes by sleeping."""

    now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock of the middleware."""
    made = Clock()
    with monkeypatch.context() as patch:
        patch.setattr(throttle.asyncio, "sleep", made.sleep)
        yield made


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(status_code=400 if body.startswith(b"bad") else 200)(scope, receive, send)


def seconds(clock: Clock, calls: list[tuple[str, str, str, bytes]]) -> float:
    """Make calls (client, method, path, body) one after the other; return how long they took."""
    began = clock.now

    async def run() -> None:
        app = Throttle(answer, {"/generate"}, clock)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
            for client, method, path, body in calls:
                current_client.set(client)
                await http.request(method, path, content=body)

    asyncio.run(run())
    return clock.now - began


def test_a_page_with_its_scripts_comes_at_once_and_a_flood_does_not(clock: Clock) -> None:
    assert seconds(clock, [("a", "GET", "/docs.json", b"")] * int(BURST)) == 0
    assert seconds(clock, [("a", "GET", "/", b"")] * int(BURST + 10 * PER_S)) == pytest.approx(10)


def test_requests_that_are_answered_never_wait(clock: Clock) -> None:
    assert seconds(clock, [("a", "POST", "/generate", b"good")] * 2000) == 0


def test_requests_that_are_refused_wait_by_number_and_size(clock: Clock) -> None:
    assert seconds(clock, [("a", "POST", "/generate", b"bad")] * int(BURST + 1 + 2 * PER_S)) == pytest.approx(
        2, abs=0.1
    )
    large = [("b", "POST", "/generate", b"bad" + bytes(1_000_000))] * int(BURST / 2 + PER_S)
    assert seconds(clock, large) == pytest.approx(2, abs=0.1)


def test_uploads_come_as_fast_as_a_line_of_a_gigabit_and_no_faster(clock: Clock) -> None:
    picture = b"good" + bytes(1_000_000)
    assert seconds(clock, [("a", "POST", "/generate", picture)] * int(UPLOAD_BURST / len(picture))) == 0
    num_more = int(3 * UPLOAD_PER_S / len(picture))
    many = [("a", "POST", "/generate", picture)] * (int(UPLOAD_BURST / len(picture)) + num_more)
    assert seconds(clock, [*many, ("b", "POST", "/generate", picture)]) == pytest.approx(3, abs=0.1)


def test_nobody_waits_for_another(clock: Clock) -> None:
    flood = [("a", "GET", "/", b"")] * 1000
    assert seconds(clock, [*flood, ("b", "GET", "/", b""), ("b", "POST", "/generate", b"good")]) == seconds(
        clock, flood
    )


def test_whoever_sends_many_at_once_is_told_when_to_come_back(clock: Clock) -> None:
    async def run() -> list[httpx.Response]:
        app = Throttle(answer, {"/generate"}, lambda: 1.0)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
            return [await http.get("/") for _ in range(int(BURST + 6 * PER_S))]

    replies = asyncio.run(run())
    assert [reply.status_code for reply in replies].count(429) == PER_S
    assert replies[-1].headers["retry-after"] == "6"


def test_what_is_remembered_of_clients_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_MAX_REMEMBERED", 3)
    allowances = throttle._Allowances(clock, BURST, PER_S)
    for client in range(10):
        allowances.take(str(client), BURST)
    assert [allowances.wait_s(str(client), 1.0) > 0 for client in reversed(range(10))] == [True] * 3 + [False] * 7
