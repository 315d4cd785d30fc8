"""The application mounted at /api: Ollama's generate, chat and list of models."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.responses import JSONResponse

from blip2_serve import __version__
from blip2_serve.api.body import read_json_body
from blip2_serve.api.disconnect import while_connected
from blip2_serve.api.errors import add_error_answers
from blip2_serve.api.inputs import image_of
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.ollama.answers import ChatAnswer, GenerateAnswer, Writer
from blip2_serve.api.ollama.messages import FIELDS, Asked, asked_in_chat, asked_to_generate
from blip2_serve.api.ollama.models import (
    OllamaModels,
    RunningOllamaModels,
    ShownOllamaModel,
    check_name,
    listed,
    running,
    shown,
)
from blip2_serve.api.ollama.request import (
    CHAT_EXAMPLE,
    GENERATE_EXAMPLE,
    ChatRequest,
    GenerateRequest,
    RequestT,
    body_schema,
    read_request,
)
from blip2_serve.api.ollama.stream import LineStream, lines
from blip2_serve.api.openai.answering import headers_of
from blip2_serve.tasks.verbs import Tasks

# Those that ask the model come first.
MODEL_PATHS = ("/generate", "/chat")
PATHS = (*MODEL_PATHS, "/show", "/tags", "/ps", "/version")
_LINES = {LineStream.media_type: {"schema": {"type": "string", "description": "an answer a line, the last one `done`"}}}
_SHOW = {"type": "object", "required": ["model"], "properties": {"model": {"type": "string"}}}


class OllamaVersion(BaseModel):
    """Answer of /api/version: the version of this server."""

    version: str


class _Endpoints:
    """The endpoints, on the tasks of the running service."""

    def __init__(self, get_tasks: Callable[[], Tasks]) -> None:
        self._get_tasks = get_tasks
        self._since = datetime.now(UTC)

    async def ollama_version(self) -> OllamaVersion:
        """The version of this server."""
        return OllamaVersion(version=__version__)

    async def ollama_tags(self) -> OllamaModels:
        """The model that writes text, under its name and the aliases."""
        return OllamaModels(models=listed(self._get_tasks(), self._since))

    async def ollama_ps(self) -> RunningOllamaModels:
        """The same, for it is in memory."""
        return RunningOllamaModels(models=running(self._get_tasks(), self._since))

    async def ollama_show(self, request: Request) -> ShownOllamaModel:
        """One model by its name."""
        values = await read_json_body(request, '{"model": "blip2"}')
        return shown(values, self._get_tasks(), self._since)

    async def ollama_generate(self, request: Request) -> Response:
        """Answer a question about a picture; without a question, caption it."""
        body, tasks, ignored = await self._read(request, GenerateRequest, GENERATE_EXAMPLE)
        return await _answer(request, body, asked_to_generate(body, ignored), tasks, ignored)

    async def ollama_chat(self, request: Request) -> Response:
        """Answer the last message of a conversation about a picture."""
        body, tasks, ignored = await self._read(request, ChatRequest, CHAT_EXAMPLE)
        return await _answer(request, body, asked_in_chat(body, ignored), tasks, ignored)

    async def _read(self, request: Request, kind: type[RequestT], example: str) -> tuple[RequestT, Tasks, Ignored]:
        tasks = self._get_tasks()
        ignored = Ignored(strict=tasks.settings.strict == "on")
        body = read_request(kind, await read_json_body(request, example), ignored)
        check_name(body.model, tasks)
        return body, tasks, ignored


def ollama_app(get_tasks: Callable[[], Tasks]) -> FastAPI:
    """Build the application, before the model is loaded: each request calls `get_tasks`."""
    app = FastAPI(openapi_url=None)
    endpoints = _Endpoints(get_tasks)
    _add_get(app, "/tags", endpoints.ollama_tags)
    _add_get(app, "/ps", endpoints.ollama_ps)
    _add_get(app, "/version", endpoints.ollama_version)
    _add_post(app, "/show", endpoints.ollama_show, _SHOW, ShownOllamaModel)
    _add_post(app, "/generate", endpoints.ollama_generate, body_schema(GenerateRequest), GenerateAnswer)
    _add_post(app, "/chat", endpoints.ollama_chat, body_schema(ChatRequest), ChatAnswer)
    add_error_answers(app, FIELDS)
    return app


def _add_get(app: FastAPI, path: str, endpoint: Callable[..., Any]) -> None:
    app.add_api_route(path, endpoint, methods=["GET"], tags=["Ollama"], operation_id=endpoint.__name__)
    app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def _add_post(
    app: FastAPI, path: str, endpoint: Callable[..., Any], schema: dict[str, Any], answer: type[BaseModel]
) -> None:
    app.add_api_route(
        path,
        endpoint,
        methods=["POST"],
        tags=["Ollama"],
        operation_id=endpoint.__name__,
        responses={200: {"model": answer, **({"content": _LINES} if path in MODEL_PATHS else {})}},
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}},
    )


async def _answer(
    request: Request, body: GenerateRequest | ChatRequest, asked: Asked | None, tasks: Tasks, ignored: Ignored
) -> Response:
    writer = Writer(body.model, is_chat=isinstance(body, ChatRequest), logprobs=body.logprobs)
    if asked is None:
        return JSONResponse(writer.loaded(unloads=body.unloads), headers=ignored.headers)
    image = await asyncio.to_thread(image_of, asked.image, "images")  # megabytes of base64
    call = image, asked.prompt, body.options.decoding(tasks.family), body.output
    if body.stream:
        stream = await while_connected(request, tasks.stream(*call))
        return LineStream(stream, lines(stream, writer), headers_of(stream, asked.dropped_turns, ignored))
    done = await while_connected(request, tasks.complete(*call))
    # With 20 likely tokens at each place it is large.
    return await asyncio.to_thread(
        JSONResponse, writer.whole(done), headers=headers_of(done, asked.dropped_turns, ignored)
    )
