"""The application mounted at /v2: the second version of Cohere's reranking."""

from collections.abc import Callable

from fastapi import FastAPI

from blip2_serve.api.errors import add_error_answers
from blip2_serve.api.rerank.endpoint import add_rerank
from blip2_serve.errors import Part
from blip2_serve.tasks.verbs import Tasks


def rerank_app(get_tasks: Callable[[], Tasks]) -> FastAPI:
    """Build the application, before the model is loaded: each request calls `get_tasks`."""
    app = FastAPI(openapi_url=None)
    add_rerank(app, get_tasks, "2")
    add_error_answers(app, dict.fromkeys(Part, "documents"))
    return app
