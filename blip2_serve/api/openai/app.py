"""The application mounted at /v1: OpenAI's chat completions, embeddings and model list, and reranking."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response

from blip2_serve.api.body import read_json_body
from blip2_serve.api.disconnect import while_connected
from blip2_serve.api.errors import add_error_answers
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.models import ALIAS, check_model, listed_models
from blip2_serve.api.openai.embeddings import EXAMPLE as EMBEDDINGS_EXAMPLE
from blip2_serve.api.openai.embeddings import Embeddings, EmbeddingsRequest, embed
from blip2_serve.api.openai.embeddings import read_request as read_embeddings
from blip2_serve.api.openai.images import image_of
from blip2_serve.api.openai.messages import FIELDS, read_conversation
from blip2_serve.api.openai.render import completion_json
from blip2_serve.api.openai.request import EXAMPLE, validate_request
from blip2_serve.api.openai.responses import ChatCompletion, Model, ModelList, now
from blip2_serve.api.openai.schema import body_schema
from blip2_serve.api.openai.stream import Chunks, EventStream
from blip2_serve.api.rerank.endpoint import add_rerank
from blip2_serve.images import ImageSource
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.completion import CompletedRequest, OutputOptions
from blip2_serve.tasks.prompt import PromptSpec
from blip2_serve.tasks.stream import CompletionStream
from blip2_serve.tasks.verbs import Tasks

PATHS = frozenset({"/chat/completions", "/embeddings", "/models", "/rerank"})
_EMBEDDINGS = EmbeddingsRequest.model_json_schema()


@dataclass(frozen=True, slots=True)
class _Call:
    """A parsed request; it does not keep the body, megabytes of base64."""

    image: ImageSource
    asked: PromptSpec
    options: DecodingOptions
    output: OutputOptions
    logprobs: bool
    stream: bool
    include_usage: bool
    dropped_turns: int
    ignored: Ignored


class _Endpoints:
    """The endpoints, on the tasks of the running service."""

    def __init__(self, get_tasks: Callable[[], Tasks]) -> None:
        self._get_tasks = get_tasks
        self._created = now()

    async def list_models(self) -> ModelList:
        """The models that are served, the one that writes text first."""
        return ModelList(data=[Model(id=name, created=self._created) for name in listed_models(self._get_tasks())])

    async def get_model(self, model: str) -> Model:
        """One model by its name."""
        tasks = self._get_tasks()
        if model in listed_models(tasks):
            return Model(id=model, created=self._created)
        check_model(model, tasks.model_name, tasks)
        return Model(id=tasks.model_name if model == ALIAS else model, created=self._created)

    async def embeddings(self, request: Request) -> Response:
        """Turn texts and pictures into vectors that can be compared."""
        tasks = self._get_tasks()
        retrieval = tasks.retrieval
        ignored = Ignored(strict=tasks.settings.strict == "on")
        asked = read_embeddings(await read_json_body(request, EMBEDDINGS_EXAMPLE), ignored)
        check_model(asked.model, retrieval.model_name, tasks)
        body = await while_connected(request, embed(asked, retrieval))
        return Response(body, headers=ignored.headers, media_type="application/json")

    async def chat_completions(self, request: Request) -> Response:
        """Answer the last message of a conversation about a picture; without text, caption the picture."""
        tasks = self._get_tasks()
        call = await _read_call(request, tasks)
        if call.stream:
            return await _stream(request, call, tasks)
        done = await while_connected(request, tasks.complete(call.image, call.asked, call.options, call.output))
        # 16 answers with 20 likely tokens at each place are megabytes.
        body = await asyncio.to_thread(completion_json, tasks.model_name, done, logprobs=call.logprobs)
        return Response(body, headers=_headers(done, call), media_type="application/json")


def openai_app(get_tasks: Callable[[], Tasks]) -> FastAPI:
    """Build the application, before the model is loaded: each request calls `get_tasks`."""
    app = FastAPI(openapi_url=None)
    endpoints = _Endpoints(get_tasks)
    for path, endpoint in (("/models", endpoints.list_models), ("/models/{model:path}", endpoints.get_model)):
        app.add_api_route(path, endpoint, methods=["GET"], tags=["OpenAI"], operation_id=endpoint.__name__)
    app.add_api_route(
        "/chat/completions",
        endpoints.chat_completions,
        methods=["POST"],
        tags=["OpenAI"],
        operation_id="chat_completions",
        responses={200: {"model": ChatCompletion, "content": {"text/event-stream": {"schema": {"type": "string"}}}}},
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": body_schema()}}}},
    )
    app.add_api_route(
        "/embeddings",
        endpoints.embeddings,
        methods=["POST"],
        tags=["OpenAI"],
        operation_id="embeddings",
        responses={200: {"model": Embeddings}},
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _EMBEDDINGS}}}},
    )
    add_rerank(app, get_tasks, "1")
    add_error_answers(app, FIELDS)
    return app


async def _read_call(request: Request, tasks: Tasks) -> _Call:
    ignored = Ignored(strict=tasks.settings.strict == "on")
    body = validate_request(await read_json_body(request, EXAMPLE), ignored)
    family = tasks.family  # first: a server that writes no text says so, whatever model is named
    check_model(body.model, tasks.model_name, tasks)
    conversation = read_conversation(body.messages, ignored)
    asked = conversation.asked(body.task)
    return _Call(
        image=await asyncio.to_thread(image_of, conversation.image),  # megabytes of base64
        asked=asked,
        options=body.options(asked.task, family),
        output=body.output,
        logprobs=body.logprobs,
        stream=body.stream,
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
        dropped_turns=conversation.dropped_turns,
        ignored=ignored,
    )


async def _stream(request: Request, call: _Call, tasks: Tasks) -> EventStream:
    """Wait for the first token, so that an earlier error is answered with its own status."""
    stream = await while_connected(request, tasks.stream(call.image, call.asked, call.options, call.output))
    chunks = Chunks(tasks.model_name, logprobs=call.logprobs, include_usage=call.include_usage)
    events = chunks.events(stream, call.options.num_return_sequences)
    return EventStream(stream, events, _headers(stream, call))


def _headers(done: CompletedRequest | CompletionStream, call: _Call) -> dict[str, str]:
    num_dropped = (done.dropped_turns or 0) + call.dropped_turns
    told = done.dropped_turns is not None or num_dropped > 0
    dropped = {"X-Dropped-Turns": str(num_dropped)} if told else {}
    guards = {"X-Guards": ", ".join(done.guards)} if isinstance(done, CompletedRequest) and done.guards else {}
    return {"X-Image-Id": done.image_id, **dropped, **guards, **call.ignored.headers}
