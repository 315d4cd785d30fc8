"""The endpoint with the protocol's own library, on tasks that answer at once."""

import asyncio
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from blip2_serve.api.errors import ErrorShape
from blip2_serve.api.mcp.endpoint import McpEndpoint
from blip2_serve.api.mcp.errors import JsonRpcErrors
from blip2_serve.api.mcp.message import MAX_MESSAGE_BYTES
from blip2_serve.clients import current_client
from blip2_serve.config import Settings
from blip2_serve.errors import Busy
from blip2_serve.families import OPT
from blip2_serve.images import ImageSource, Upload
from blip2_serve.tasks.completion import Answer
from blip2_serve.tasks.verbs import Tasks

PICTURE = "data:image/png;base64,AAAA"


class FakeTasks:
    """Records what it is asked, and answers with the client that asks or with `error`."""

    family = OPT

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[tuple[ImageSource, str | None]] = []
        self.error = error

    def check_room(self) -> None:
        if self.error:
            raise self.error

    async def caption(self, image: ImageSource, prefix: str | None, options: object, output: object) -> Answer:
        self.asked.append((image, prefix))
        if self.error:
            raise self.error
        return cast(
            Answer,
            SimpleNamespace(
                text=current_client.get(),
                image_id="00" * 32,
                finish_reason="stop",
                confidence=None,
                dropped_turns=None,
                guards=(),
            ),
        )


class Mcp:
    """A client of an endpoint in this process."""

    def __init__(self, tasks: FakeTasks) -> None:
        self.endpoint = McpEndpoint(cast(Tasks, tasks), Settings())
        app = JsonRpcErrors(ErrorShape(Starlette(routes=[Mount("/mcp", self.endpoint)])))
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

    async def __aenter__(self) -> "Mcp":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.endpoint.close()
        await self.http.aclose()

    async def send(self, method: str, **params: Any) -> httpx.Response:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self.http.post("/mcp", json=message, headers={"Accept": "application/json, text/event-stream"})

    async def caption(self, **arguments: Any) -> dict[str, Any]:
        reply = await self.send("tools/call", name="caption", arguments=arguments)
        assert reply.status_code == 200, reply.text
        return cast(dict[str, Any], reply.json()["result"])


HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}


def test_the_verb_gets_the_pictures_bytes_and_the_client_of_the_request() -> None:
    async def call(tasks: FakeTasks) -> dict[str, Any]:
        async with Mcp(tasks) as mcp:
            current_client.set("10.0.0.7")
            await mcp.send("initialize", **HELLO)
            current_client.set("10.0.0.8")
            return await mcp.caption(image=PICTURE, prefix="a")

    tasks = FakeTasks()
    assert asyncio.run(call(tasks))["structuredContent"]["text"] == "10.0.0.8"
    ((image, prefix),) = tasks.asked
    assert isinstance(image, Upload)
    assert (image.release(), prefix) == (b"\0\0\0", "a")


def test_null_means_not_given() -> None:
    async def call(tasks: FakeTasks) -> dict[str, Any]:
        async with Mcp(tasks) as mcp:
            return await mcp.caption(image=PICTURE, prefix=None, max_new_tokens=None)

    assert not asyncio.run(call(FakeTasks())).get("isError")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Busy("Try again later.", retry_after_s=1), "Try again later."),
        (RuntimeError("a secret"), "The server failed on this request; its log says why."),
    ],
)
def test_an_error_is_told_as_the_tools(error: Exception, told: str) -> None:
    async def call() -> dict[str, Any]:
        async with Mcp(FakeTasks(error)) as mcp:
            return await mcp.caption(image=PICTURE)

    result = asyncio.run(call())
    assert (result["isError"], [each["text"] for each in result["content"]]) == (True, [told])


def test_a_large_picture_is_not_read_where_there_is_no_room() -> None:
    async def call(tasks: FakeTasks) -> httpx.Response:
        async with Mcp(tasks) as mcp:
            arguments = {"image": "A" * 2 * MAX_MESSAGE_BYTES}
            return await mcp.send("tools/call", name="caption", arguments=arguments)

    tasks = FakeTasks(Busy("Later.", retry_after_s=2))
    reply = asyncio.run(call(tasks))
    assert (reply.status_code, reply.headers["retry-after"], tasks.asked) == (429, "2", [])
    assert reply.json()["error"]["message"] == "Later."


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b'{"a": NaN}', b"[" * 100_000, b'{"jsonrpc": "2.0", "method": "%s"}' % (b"x" * 300_000)],
)
def test_what_is_no_message_is_a_bad_request_with_a_reason(body: bytes) -> None:
    async def call() -> httpx.Response:
        async with Mcp(FakeTasks()) as mcp:
            return await mcp.http.post("/mcp", content=body, headers={"Content-Type": "application/json"})

    reply = asyncio.run(call())
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == -32600
    assert reply.json()["id"] is None


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_there_is_no_stream_to_hold_open_and_no_session_to_end(method: str) -> None:
    async def call() -> httpx.Response:
        async with Mcp(FakeTasks()) as mcp:
            return await mcp.http.request(method, "/mcp", headers={"Accept": "text/event-stream"})

    reply = asyncio.run(call())
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


def test_nothing_is_kept_of_a_thousand_opened_sessions() -> None:
    async def grown() -> tuple[int, int]:
        async with Mcp(FakeTasks()) as mcp:
            for _ in range(20):
                await mcp.send("initialize", **HELLO)
            await asyncio.sleep(0.1)
            tasks, began = len(asyncio.all_tasks()), tracemalloc.get_traced_memory()[0]
            for _ in range(1000):
                reply = await mcp.send("initialize", **HELLO)
                assert reply.json()["result"]["serverInfo"]["name"] == "blip2-serve"
                assert "mcp-session-id" not in reply.headers
            await asyncio.sleep(0.1)
            return len(asyncio.all_tasks()) - tasks, tracemalloc.get_traced_memory()[0] - began

    tracemalloc.start()
    try:
        num_tasks, num_bytes = asyncio.run(grown())
    finally:
        tracemalloc.stop()
    assert num_tasks == 0
    assert num_bytes < 1_000_000


def test_without_the_library_the_answer_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    async def call() -> httpx.Response:
        async with Mcp(FakeTasks()) as mcp:
            return await mcp.send("tools/list")

    monkeypatch.setitem(sys.modules, "mcp_types", None)
    reply = asyncio.run(call())
    assert reply.status_code == 404
    assert "pip install -r requirements-mcp.txt" in reply.json()["error"]["message"]


def test_a_server_imports_nothing_of_the_library() -> None:
    code = "import sys, blip2_serve.service; print([name for name in sys.modules if name.split('.')[0] == 'mcp'])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=300).split() == ["[]"]


def test_the_library_is_loaded_by_the_first_message_only() -> None:
    async def call() -> tuple[object, object]:
        async with Mcp(FakeTasks()) as mcp:
            await mcp.http.get("/mcp")
            before = mcp.endpoint._server
            await asyncio.gather(*(mcp.send("tools/list") for _ in range(5)))
            return before, mcp.endpoint._server

    before, after = asyncio.run(call())
    assert before is None
    assert after is not None


def test_errors_below_and_json_rpcs_own_pass_untouched() -> None:
    async def call() -> tuple[httpx.Response, httpx.Response]:
        async with Mcp(FakeTasks()) as mcp:
            return await mcp.http.get("/mcp/.well-known/openid-configuration"), await mcp.send("no/method")

    below, unknown = asyncio.run(call())
    assert (below.status_code, below.json()["error"]["code"]) == (404, "not_found")
    assert unknown.json()["error"]["code"] == -32601
