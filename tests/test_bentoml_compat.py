"""Our replacements do what we need, and BentoML does not. When a test of BentoML itself fails, drop the replacement."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from blip2_serve.bentoml_compat import BENTOML_TIMEOUT, MeteredRoutes, Middleware, Timeout
from support.serving import serve


def ask(
    seconds: float, *, begin_first: bool = False, timeout_s: float = 0.05, middleware: Middleware = Timeout
) -> tuple[httpx.Response, int]:
    """Ask an application that takes `seconds`; return its answer and the number of timers left in the event loop."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if begin_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(seconds)
        if not begin_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def call() -> tuple[httpx.Response, int]:
        transport = httpx.ASGITransport(middleware(application, timeout_s))
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


def test_bentoml_itself_leaves_its_timer_behind() -> None:
    reply, timers = ask(0, timeout_s=3600, middleware=BENTOML_TIMEOUT)
    assert (reply.text, timers) == ("done", 1)


@pytest.mark.parametrize(("path", "is_metered"), [("/generate", True), ("/wp-login.php", False)])
def test_only_the_given_paths_are_metered(path: str, is_metered: bool) -> None:
    passed: list[str] = []

    def named(name: str) -> ASGIApp:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            passed.append(name)

        return application

    routes = MeteredRoutes(named("plain"), lambda app: named("metered"), frozenset({"/generate"}))
    asyncio.run(routes({"type": "http", "path": path}, _never, _never))  # type: ignore[arg-type]
    assert passed == ["metered" if is_metered else "plain"]


async def _never() -> None:
    raise AssertionError("nothing is received or sent")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a plain BentoML service, without our code."""
    home = tmp_path_factory.mktemp("plain")
    with (
        serve(home, {}, target="tests.support.plain_service:Plain") as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        yield client


def test_bentoml_itself_makes_a_series_of_every_requested_path(plain: httpx.Client) -> None:
    plain.get("/wp-login.php")
    assert 'endpoint="/wp-login.php"' in plain.get("/metrics").text


def test_bentoml_itself_answers_errors_in_other_shapes(plain: httpx.Client) -> None:
    """The reason for `api.errors.ErrorShape`."""
    reply = plain.post("/say", json={})
    assert reply.status_code == 400
    assert not (isinstance(reply.json(), dict) and isinstance(reply.json().get("error"), dict))


def test_bentoml_itself_ignores_unknown_fields(plain: httpx.Client) -> None:
    """The reason for `api.native.inputs` to read requests itself."""
    assert plain.post("/say", json={"text": "hi", "temprature": 1}).status_code == 200


def test_bentomls_page_loads_a_script_from_another_host(plain: httpx.Client) -> None:
    """The reason for `api.openapi.pages`."""
    assert "https://" in plain.get("/").text.partition("<script")[2]


def test_bentomls_access_log_fails_on_a_content_type_that_is_no_utf_8(plain: httpx.Client) -> None:
    """The reason for `api.middleware.access_log`."""
    with pytest.raises(httpx.RemoteProtocolError):
        plain.post("/say", content=b"{}", headers={"Content-Type": b"application/json; x=\xff"})


def test_bentoml_itself_works_on_for_a_caller_that_left(plain: httpx.Client, tmp_path: Path) -> None:
    """The reason for `api.disconnect`."""
    note = tmp_path / "note"
    with pytest.raises(httpx.ReadTimeout):
        plain.post("/note_after", json={"seconds": 0.6, "path": str(note)}, timeout=0.2)
    time.sleep(1.5)
    assert note.exists()
