"""The application mounted at /v1: OpenAI's endpoints, and reranking."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from blip2_serve.api.body import read_json_body
from blip2_serve.api.disconnect import while_connected
from blip2_serve.api.errors import add_error_answers
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.models import ALIAS, check_model, listed_models
from blip2_serve.api.openai.answers import Model, ModelList, now
from blip2_serve.api.openai.chat.answers import ChatCompletion
from blip2_serve.api.openai.chat.endpoint import answer_chat
from blip2_serve.api.openai.chat.schema import chat_schema
from blip2_serve.api.openai.completions.answers import TextCompletion
from blip2_serve.api.openai.completions.endpoint import answer_completion
from blip2_serve.api.openai.completions.request import FIELDS as COMPLETION_FIELDS
from blip2_serve.api.openai.completions.schema import completions_schema
from blip2_serve.api.openai.embeddings import EXAMPLE as EMBEDDINGS_EXAMPLE
from blip2_serve.api.openai.embeddings import Embeddings, EmbeddingsRequest, embed
from blip2_serve.api.openai.embeddings import read_request as read_embeddings
from blip2_serve.api.openai.messages import FIELDS
from blip2_serve.api.openai.responses.answers import ResponseAnswer
from blip2_serve.api.openai.responses.endpoint import answer_response
from blip2_serve.api.openai.responses.items import FIELDS as RESPONSE_FIELDS
from blip2_serve.api.openai.responses.schema import responses_schema
from blip2_serve.api.openai.schema import Schema
from blip2_serve.api.rerank.endpoint import add_rerank
from blip2_serve.tasks.verbs import Tasks

PATHS = frozenset({"/chat/completions", "/completions", "/embeddings", "/models", "/rerank", "/responses"})
_EMBEDDINGS = EmbeddingsRequest.model_json_schema()


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
        return await answer_chat(request, self._get_tasks())

    async def responses(self, request: Request) -> Response:
        """Answer the last message of a conversation about a picture, as OpenAI's newer protocol has it."""
        return await answer_response(request, self._get_tasks())

    async def completions(self, request: Request) -> Response:
        """Continue a text about a picture, exactly as given."""
        return await answer_completion(request, self._get_tasks())


def openai_app(get_tasks: Callable[[], Tasks]) -> FastAPI:
    """Build the application, before the model is loaded: each request calls `get_tasks`."""
    app = FastAPI(openapi_url=None)
    endpoints = _Endpoints(get_tasks)
    for path, endpoint in (("/models", endpoints.list_models), ("/models/{model:path}", endpoints.get_model)):
        app.add_api_route(path, endpoint, methods=["GET"], tags=["OpenAI"], operation_id=endpoint.__name__)
    _add_written(app, endpoints.chat_completions, "/chat/completions", ChatCompletion, chat_schema())
    _add_written(app, endpoints.responses, "/responses", ResponseAnswer, responses_schema())
    _add_written(app, endpoints.completions, "/completions", TextCompletion, completions_schema())
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
    add_error_answers(app, FIELDS, {"/responses": RESPONSE_FIELDS, "/completions": COMPLETION_FIELDS})
    return app


def _add_written(
    app: FastAPI, endpoint: Callable[[Request], Awaitable[Response]], path: str, answer: type, body: Schema
) -> None:
    """Add an endpoint that writes text, at once or as a stream."""
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    app.add_api_route(
        path,
        endpoint,
        methods=["POST"],
        tags=["OpenAI"],
        operation_id=endpoint.__name__,
        responses={200: {"model": answer, "content": stream}},
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}},
    )
