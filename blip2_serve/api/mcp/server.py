"""The protocol itself, by the package `mcp`: lists the tools, calls them, answers errors of ours as tool errors.

Built on the package's `Server`, not on its `MCPServer`, which words what is wrong with arguments in several lines and
echoes them, and sets up logging for the whole process. Stateless: every POST is answered whole, in JSON, and nothing is
kept between two. So any replica answers any request, and whoever opens sessions opens nothing.
"""

import asyncio
import contextlib
import logging
from functools import partial
from typing import Any

import mcp_types as types
from mcp.server import Server, ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from blip2_serve import __version__
from blip2_serve.api.errors import public_error
from blip2_serve.api.mcp.message import CALL, MAX_MESSAGE_BYTES, Call
from blip2_serve.api.mcp.tools import TOOLS
from blip2_serve.api.native.fields import validate_fields
from blip2_serve.clients import current_client
from blip2_serve.errors import InvalidField
from blip2_serve.tasks.verbs import Tasks

_INSTRUCTIONS = (
    "Sees pictures: captions, short answers to short questions, probabilities of given answers. Each answer has an"
    " image_id; send it as image to ask about the same picture again. It knows nothing but what can be seen, reads"
    " little text and counts badly."
)
_READS_ONLY = types.ToolAnnotations(read_only_hint=True)


class ToolServer:
    """Serves the tools between `open` and `close`; cannot be opened again."""

    def __init__(self, tasks: Tasks) -> None:
        logging.getLogger("mcp").setLevel(logging.WARNING)  # it logs every request
        server: Server[Any] = Server(
            "blip2-serve",
            version=__version__,
            instructions=_INSTRUCTIONS,
            on_list_tools=partial(_list_tools, _listed()),
            on_call_tool=partial(_call_tool, tasks),
            get_tool_input_schema=lambda name: None,  # of what no schema here declares: arguments in headers
        )
        server.middleware.clear()  # spans, see the tracing of service.py
        self._manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=MAX_MESSAGE_BYTES
        )
        self._running: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start the session manager in a task of its own: whoever enters its task group must also leave it."""
        is_open = asyncio.Event()
        self._running = asyncio.create_task(self._run(is_open))
        await is_open.wait()

    async def close(self) -> None:
        """End the session manager, and with it every call."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST, whose scope has a `Call`; cancelling this cancels the call."""
        await self._manager.handle_request(scope, receive, send)

    async def _run(self, is_open: asyncio.Event) -> None:
        async with self._manager.run():
            is_open.set()
            await asyncio.Event().wait()


def _listed() -> types.ListToolsResult:
    return types.ListToolsResult(
        tools=[
            types.Tool(
                name=name,
                title=tool.title,
                description=tool.description,
                input_schema=tool.arguments.model_json_schema(),
                output_schema=tool.answer.model_json_schema(),
                annotations=_READS_ONLY,
            )
            for name, tool in TOOLS.items()
        ]
    )


async def _list_tools(
    tools: types.ListToolsResult,
    _context: ServerRequestContext[Any, Request],
    _params: types.PaginatedRequestParams | None,
) -> types.ListToolsResult:
    return tools


async def _call_tool(
    tasks: Tasks, context: ServerRequestContext[Any, Request], params: types.CallToolRequestParams
) -> types.CallToolResult:
    assert context.request is not None  # every message came by HTTP
    call: Call = context.request.scope[CALL]
    current_client.set(call.client)  # the library may run this in a context of its own
    try:
        answer = await _run_tool(tasks, call, params.name, params.arguments or {})
    except Exception as error:
        return types.CallToolResult(content=[_text(public_error(error).message)], is_error=True)
    told = answer.model_dump(mode="json", exclude_none=True)
    return types.CallToolResult(content=[_text(answer.model_dump_json(exclude_none=True))], structured_content=told)


async def _run_tool(tasks: Tasks, call: Call, name: str, arguments: dict[str, Any]) -> BaseModel:
    tool = TOOLS.get(name)
    if tool is None:
        raise InvalidField(f"There is no tool {name[:64]!r} here: the tools are {', '.join(TOOLS)}.")
    given = {name: value for name, value in arguments.items() if value is not None}
    asked = validate_fields(tool.arguments, given)
    return await tool.run(tasks, call.image(), asked)


def _text(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text.encode("utf-8", "replace").decode())
