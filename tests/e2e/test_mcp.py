"""The tools at /mcp by the protocol's own client, over the real server."""

import asyncio
import base64
import functools
import http.server
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest
from mcp import Client, MCPError
from mcp_types import CallToolResult

from support.demo import ANSWER, CAPTION, FOLLOW_UP, FOLLOW_UP_ANSWER, PICTURE, PREFIX, QUESTION, TURN
from support.pictures import jpeg
from support.readme import DOCS, Example, examples, run
from support.serving import Server, serve

# The newest way to connect, and the handshake of clients before it.
MODES = ["auto", "legacy"]
DATA_URI = "data:image/jpeg;base64," + base64.b64encode(PICTURE.read_bytes()).decode()
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}
SLOW = {"max_new_tokens": 256}


@pytest.fixture(scope="module")
def pictures() -> Iterator[str]:
    """A host with demo.jpeg."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(PICTURE.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory, pictures: str) -> Iterator[Server]:
    settings = {
        "BLIP2_MODEL": "demo",
        "BLIP2_IMAGE_URLS": pictures,
        "BLIP2_MAX_REQUEST_BYTES": "1000000",
        "BLIP2_MCP_HOSTS": "captions.example.com",
        "BLIP2_TRUSTED_PROXIES": "127.0.0.1",
    }
    with serve(tmp_path_factory.mktemp("tools"), settings) as running:
        yield running


def call(server: Server, mode: str, tool: str, **arguments: Any) -> CallToolResult:
    async def called() -> CallToolResult:
        async with Client(f"{server.url}/mcp", mode=mode, read_timeout_seconds=60) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(called())


def answered(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


def refused(result: CallToolResult) -> str:
    (said,) = result.content
    assert result.is_error
    assert said.type == "text"
    assert "\n" not in said.text
    return said.text


@pytest.mark.parametrize("mode", MODES)
def test_the_tools_are_listed_with_their_arguments(tools: Server, mode: str) -> None:
    async def listed() -> dict[str, list[str]]:
        async with Client(f"{tools.url}/mcp", mode=mode) as client:
            return {tool.name: [*tool.input_schema["properties"]] for tool in (await client.list_tools()).tools}

    assert asyncio.run(listed()) == {
        "caption": ["image", "prefix", "max_new_tokens", "guards"],
        "ask": ["image", "question", "max_new_tokens", "guards"],
        "choose": ["image", "question", "choices"],
        "chat": ["image", "question", "max_new_tokens", "guards", "turns"],
    }


@pytest.mark.parametrize("mode", MODES)
def test_every_tool_answers_as_its_endpoint(tools: Server, mode: str) -> None:
    captioned = answered(call(tools, mode, "caption", image=DATA_URI))
    assert captioned["text"] == CAPTION
    seen = captioned["image_id"]
    assert answered(call(tools, mode, "caption", image=seen, prefix=PREFIX))["text"].startswith(PREFIX)
    assert answered(call(tools, mode, "ask", image=seen, question=QUESTION))["text"] == ANSWER
    asked = {"image": f"image-id:{seen}", "question": FOLLOW_UP, "turns": [TURN]}
    assert answered(call(tools, mode, "chat", **asked))["text"] == FOLLOW_UP_ANSWER
    chosen = answered(call(tools, mode, "choose", image=seen, question="is there a circle?", choices=["no", "yes"]))
    native = httpx.post(f"{tools.url}/choose", data={"img_id": seen, "txt": "is there a circle?"}, timeout=60).json()
    assert chosen == {**native, "image_id": seen}


def test_a_picture_by_url_is_fetched_where_the_policy_allows_it(tools: Server, pictures: str) -> None:
    assert answered(call(tools, "auto", "caption", image=f"http://{pictures}/demo.jpeg"))["text"] == CAPTION
    assert "not on this server's list" in refused(call(tools, "auto", "caption", image="http://127.0.0.2/demo.jpeg"))


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("caption", {}, r"image: Field required\."),
        ("caption", {"image": 5}, r"image: Input should be a valid string\."),
        ("caption", {"image": "not a picture!"}, "image is neither a URL nor a data: URI"),
        ("caption", {"image": base64.b64encode(b"no picture").decode()}, "send JPEG, PNG"),
        ("caption", {"image": "0" * 64}, "send the picture again"),
        ("caption", {"image": DATA_URI, "size": 3}, "There is no field 'size' here: the fields are image, prefix"),
        ("ask", {"image": DATA_URI, "question": "x" * 30_000}, "(?i)the question|prompt|shorten"),
        ("ask", {"image": DATA_URI, "question": "x", "max_new_tokens": 257}, r"max_new_tokens: .* 256\."),
        ("choose", {"image": DATA_URI, "question": "x", "choices": ["a", " a"]}, "two choices are the same"),
        ("chat", {"image": DATA_URI, "question": "x", "turns": [["a"]]}, r"turns\.0"),
        ("segment", {"image": DATA_URI}, "the tools are caption, ask, choose, chat"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_that_a_model_can_act_on(
    tools: Server, tool: str, arguments: dict[str, Any], said: str
) -> None:
    assert re.search(said, refused(call(tools, "auto", tool, **arguments)))


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_with_too_many_bytes_is_refused_and_says_so(tools: Server, mode: str) -> None:
    async def told() -> str:
        async with Client(f"{tools.url}/mcp", mode=mode) as client:
            with pytest.raises(MCPError) as error:
                await client.call_tool("caption", {"image": "A" * 1_100_000})
            return str(error.value)

    assert "more than the 1000000 bytes" in asyncio.run(told())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "captions.example.com", "Origin": "https://captions.example.com"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
    ],
)
def test_other_names_and_their_pages_are_refused(tools: Server, headers: dict[str, str], status: int) -> None:
    reply = httpx.post(f"{tools.url}/mcp", json=HELLO, headers={"Accept": "application/json", **headers})
    assert reply.status_code == status
    assert status == 200 or "BLIP2_MCP_HOSTS" in reply.json()["error"]["message"]


@pytest.mark.parametrize("example", examples(DOCS / "mcp.md"), ids=lambda example: example.language)
def test_the_documented_example_prints_what_is_said_there(tools: Server, example: Example) -> None:
    assert example.prints is not None
    assert run(example, tools.url).strip() == example.prints.strip()


def test_a_thousand_opened_sessions_leave_nothing_behind(tools: Server) -> None:
    """Each is another client's, or the throttle would slow them down; see tests/api/mcp for what is kept: nothing."""
    with httpx.Client(base_url=tools.url, headers={"Accept": "application/json"}, timeout=60) as http:
        for number in range(1000):
            client = {"X-Forwarded-For": f"192.0.{number % 100}.1"}
            opened = http.post("/mcp", json=HELLO, headers=client)
            assert opened.status_code == 200
            assert "mcp-session-id" not in opened.headers
        with http.stream("GET", "/mcp", headers={"Accept": "text/event-stream"}) as held:
            assert held.status_code == 405
    assert answered(call(tools, "legacy", "caption", image=DATA_URI))["text"] == CAPTION


def test_a_call_that_its_caller_gives_up_is_cancelled(faulty: Server) -> None:
    async def give_up() -> float:
        image = base64.b64encode(jpeg(seed=1)).decode()
        async with Client(f"{faulty.url}/mcp", mode="auto", read_timeout_seconds=60) as client:
            await client.call_tool("caption", {"image": image, "max_new_tokens": 1})
            began = time.monotonic()
            await client.call_tool("caption", {"image": image, **SLOW})
            whole = time.monotonic() - began
            with anyio.move_on_after(whole / 10):
                await client.call_tool("caption", {"image": image, **SLOW})
            return whole

    assert asyncio.run(give_up()) > 1
    assert "POST /mcp/ 499" in faulty.logged(" 499 ")
