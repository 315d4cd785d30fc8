"""POST /rerank: the probability of a match is the relevance, the most relevant document comes first."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field

from blip2_serve.api.body import read_json_body
from blip2_serve.api.disconnect import while_connected
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.models import check_model
from blip2_serve.api.rerank.request import EXAMPLE, RerankRequest, TextsForPicture, read_request, sides_of
from blip2_serve.tasks.retrieval.verbs import Match, Retrieval
from blip2_serve.tasks.verbs import Tasks


class RankedDocument(BaseModel):
    """A document's place among those sent, and how well it matches."""

    index: int
    relevance_score: float = Field(description="probability that picture and text match, 0 to 1")
    document: dict[str, str] | None = Field(None, description="the text, where return_documents asks for it")


class Ranking(BaseModel):
    """The documents, most relevant first."""

    id: str
    model: str
    results: list[RankedDocument]
    meta: dict[str, Any] = Field(description="the version of Cohere's protocol")


def add_rerank(app: FastAPI, get_tasks: Callable[[], Tasks], version: str) -> None:
    """Add POST /rerank to an application that answers Blip2Errors; `version` is that of Cohere's protocol."""

    async def rerank(request: Request, response: Response) -> Ranking:
        """Rank pictures by a text, or texts by a picture."""
        tasks = get_tasks()
        retrieval = tasks.retrieval
        ignored = Ignored(strict=tasks.settings.strict == "on")
        body = read_request(await read_json_body(request, EXAMPLE), ignored)
        check_model(body.model, retrieval.model_name, tasks)
        matches = await while_connected(request, _matches(body, retrieval))
        response.headers.update(ignored.headers)
        return _ranking(body, matches, retrieval.model_name, version)

    schema = RerankRequest.model_json_schema()
    app.add_api_route(
        "/rerank",
        rerank,
        methods=["POST"],
        tags=["Reranking"],
        operation_id=f"rerank_v{version}",
        response_model_exclude_none=True,
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}},
    )


async def _matches(body: RerankRequest, retrieval: Retrieval) -> list[Match]:
    sides = await asyncio.to_thread(sides_of, body)
    if isinstance(sides, TextsForPicture):
        return (await retrieval.match(sides.image, sides.texts)).matches
    return await retrieval.match_many(sides.images, sides.text)


def _ranking(body: RerankRequest, matches: list[Match], model: str, version: str) -> Ranking:
    order = sorted(range(len(matches)), key=lambda place: (-matches[place].itm, place))
    results = [
        RankedDocument(index=place, relevance_score=matches[place].itm, document=_document(body, place))
        for place in order[: body.top_n]
    ]
    return Ranking(id=str(uuid.uuid4()), model=model, results=results, meta={"api_version": {"version": version}})


def _document(body: RerankRequest, place: int) -> dict[str, str] | None:
    """The text of a document; a picture is not sent back."""
    document = body.documents[place]
    text = document.get("text") if isinstance(document, dict) else document
    if not body.return_documents or not isinstance(text, str) or text.startswith("data:"):
        return None
    return {"text": text}
