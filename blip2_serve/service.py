"""The BentoML service: builds `Tasks` from the settings, and declares endpoints, probes and middleware."""

import asyncio
import logging
from functools import cache
from typing import cast

import bentoml
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from blip2_serve import bentoml_compat
from blip2_serve.api.disconnect import while_connected
from blip2_serve.api.errors import answer_errors
from blip2_serve.api.front import stand_in_front
from blip2_serve.api.hf import app as hf
from blip2_serve.api.mcp.endpoint import McpEndpoint
from blip2_serve.api.mcp.errors import PATH as MCP_PATH
from blip2_serve.api.native.answers import json_reply
from blip2_serve.api.native.ask import AskFields
from blip2_serve.api.native.batch import BatchAnswer, BatchFields
from blip2_serve.api.native.caption import CaptionFields, check_measured, needs_review
from blip2_serve.api.native.caption_several import Captioned, CaptionSeveralAnswer, CaptionSeveralFields
from blip2_serve.api.native.chat import ChatFields
from blip2_serve.api.native.choose import ChooseAnswer, ChooseFields
from blip2_serve.api.native.embed import EmbedAnswer, EmbedFields, images_body, texts_body
from blip2_serve.api.native.inputs import input_of
from blip2_serve.api.native.match import MatchAnswer, MatchFields
from blip2_serve.api.ollama import app as ollama
from blip2_serve.api.openai.app import PATHS as OPENAI_PATHS
from blip2_serve.api.openai.app import openai_app
from blip2_serve.api.rerank.app import rerank_app
from blip2_serve.config import MAX_DEADLINE_S, Settings
from blip2_serve.errors import StartupError
from blip2_serve.memory import keep_what_is_loaded
from blip2_serve.model.device import use_available_threads
from blip2_serve.model.models import check_start, load_models
from blip2_serve.tasks.completion import Answer
from blip2_serve.tasks.verbs import Tasks
from blip2_serve.ui.web_page import WebPage


@cache
def _settings() -> Settings:
    """Read the settings at server start: importing this module must not read them."""
    return Settings.from_env()


def _running_tasks() -> Tasks:
    return cast(Tasks, bentoml.get_current_service()._tasks)


async def _page(scope: Scope, receive: Receive, send: Send) -> None:
    await bentoml.get_current_service()._page(scope, receive, send)


async def _mcp(scope: Scope, receive: Receive, send: Send) -> None:
    await bentoml.get_current_service()._mcp(scope, receive, send)


@bentoml.asgi_app(_page, path="/ui", name="ui")
@bentoml.asgi_app(hf.hf_app(_running_tasks), path="/hf", name="hf")
@bentoml.asgi_app(ollama.ollama_app(_running_tasks), path="/api", name="ollama")
@bentoml.asgi_app(_mcp, path=MCP_PATH, name="mcp")
@bentoml.asgi_app(rerank_app(_running_tasks), path="/v2", name="rerank")
@bentoml.asgi_app(openai_app(_running_tasks), path="/v1", name="openai")
@bentoml.service(
    name="blip2",
    resources={"gpu": 1, "gpu_type": "nvidia-l4", "memory": "24Gi"},
    traffic={"timeout": MAX_DEADLINE_S + 60},
    logging={"access": {"enabled": False}},  # see api/middleware/access_log.py
    # Uncollected spans took a third of a request's time on the event loop; docs/deploy.md says how to trace.
    tracing={"excluded_urls": ".*"},
)
class Blip2:
    """Captions, answers and conversations about pictures, by BLIP-2."""

    def __init__(self) -> None:
        settings = _settings()
        logging.getLogger("blip2_serve").setLevel(logging.INFO)
        loaded = load_models(settings)
        use_available_threads(settings, loaded.num_parameters)
        self._tasks = Tasks(loaded.caption, settings, loaded.retrieval)
        self._page = WebPage()
        self._mcp = McpEndpoint(self._tasks, settings)

    @bentoml.on_startup
    async def warm_up(self) -> None:
        """Answer once, and open the web page, before /readyz turns true."""
        await self._tasks.warm_up()
        await self._page.open(self._tasks, _settings())
        keep_what_is_loaded()

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Check settings and weights before the server starts.

        Raises:
            SystemExit: they are unusable; the whole process ends with one line.
        """
        try:
            check_start(_settings())
        except StartupError as error:
            raise SystemExit(f"blip2-serve cannot start: {error.message}") from None

    @bentoml.on_shutdown
    async def close(self) -> None:
        """Close the web page and end the engine's loop."""
        await self._page.close()
        await self._mcp.close()
        self._tasks.close()

    def __is_alive__(self) -> bool:
        return self._tasks.is_alive

    def __is_ready__(self) -> bool:
        return self._tasks.is_alive

    @bentoml.api(input_spec=input_of(CaptionFields, "CaptionInput"))
    @answer_errors
    async def generate(self, fields: CaptionFields, request: Request) -> str:
        """Caption a picture; with `txt`, give the caption that begins with it."""
        check_measured(fields.min_confidence, measured=self._tasks.is_calibrated and not fields.txt)
        answer = self._tasks.caption(fields.image, fields.txt, fields.options(self._tasks.family), fields.output)
        return self._reply(await while_connected(request, answer), fields.min_confidence)

    @bentoml.api(input_spec=input_of(AskFields, "AnswerInput"))
    @answer_errors
    async def vqa(self, fields: AskFields, request: Request) -> str:
        """Answer a question about a picture."""
        answer = self._tasks.ask(fields.image, fields.txt, fields.options(self._tasks.family), fields.output)
        return self._reply(await while_connected(request, answer))

    @bentoml.api(input_spec=input_of(ChatFields, "ChatInput"))
    @answer_errors
    async def chat(self, fields: ChatFields, request: Request) -> str:
        """Answer a question about a picture after earlier questions and answers."""
        options = fields.options(self._tasks.family)
        answer = self._tasks.chat(fields.image, fields.txt, fields.context or [], options, fields.output)
        return self._reply(await while_connected(request, answer))

    @bentoml.api(input_spec=input_of(CaptionSeveralFields, "CaptionsInput"))
    @answer_errors
    async def captions(self, fields: CaptionSeveralFields, request: Request) -> CaptionSeveralAnswer:
        """Caption a picture several times, and say what each caption is worth."""
        check_measured(fields.min_confidence, measured=self._tasks.is_calibrated and not fields.txt)
        options = fields.options(self._tasks.family)
        explains, guards = fields.explain, fields.guards
        making = self._tasks.caption_several(
            fields.image, fields.txt, fields.num_captions, options, fields.rank_by, explains=explains, guards=guards
        )
        made = await while_connected(request, making)
        captions = [Captioned.of(caption, fields) for caption in made.captions]
        return json_reply(CaptionSeveralAnswer(captions=captions), self._headers(made.image_id))

    @bentoml.api(input_spec=input_of(ChooseFields, "ChooseInput"))
    @answer_errors
    async def choose(self, fields: ChooseFields, request: Request) -> ChooseAnswer:
        """Choose among given answers to a question about a picture."""
        ranking = self._tasks.choose(fields.image, fields.txt, fields.choices, fields.normalize)
        ranked = await while_connected(request, ranking)
        return json_reply(ChooseAnswer(choices=ranked.choices), self._headers(ranked.image_id))

    @bentoml.api(input_spec=input_of(BatchFields, "BatchInput"))
    @answer_errors
    async def batch(self, fields: BatchFields, request: Request) -> BatchAnswer:
        """Caption many pictures, or ask about each of them."""
        check_measured(fields.min_confidence, measured=self._tasks.is_calibrated and fields.only_captions)
        options = fields.options(self._tasks.family)
        results = self._tasks.batch(fields.imgs, fields.texts, fields.task, options, fields.output)
        answer = BatchAnswer.of(await while_connected(request, results), fields.min_confidence)
        return json_reply(answer, self._headers())

    @bentoml.api(input_spec=input_of(MatchFields, "MatchInput"))
    @answer_errors
    async def match(self, fields: MatchFields, request: Request) -> MatchAnswer:
        """Say how well texts match a picture."""
        retrieval, explainer = self._tasks.retrieval, self._tasks.explainer if fields.explain else None
        compared = await while_connected(request, retrieval.match(fields.image, fields.texts, explainer))
        answer, headers = MatchAnswer(matches=compared.matches), self._headers(compared.image_id, retrieval.model_name)
        return await asyncio.to_thread(json_reply, answer, headers)  # 16,000 explained words take a while

    @bentoml.api(input_spec=input_of(EmbedFields, "EmbedInput"))
    @answer_errors
    async def embed(self, fields: EmbedFields, request: Request) -> EmbedAnswer:
        """Turn pictures or texts into vectors that can be compared."""
        retrieval, images = self._tasks.retrieval, fields.images
        if images:
            seen = await while_connected(request, retrieval.embed_images(images))
            body = await asyncio.to_thread(images_body, seen, fields)
        else:
            read = await while_connected(request, retrieval.embed_texts(fields.texts or []))
            body = await asyncio.to_thread(texts_body, read, fields)
        headers = self._headers(model=retrieval.model_name)
        return cast(EmbedAnswer, Response(body, headers=headers, media_type="application/json"))

    def _headers(self, image_id: str | None = None, model: str | None = None) -> dict[str, str]:
        """Build the headers of every answer; `image_id` where it is about one picture."""
        about = {} if image_id is None else {"X-Image-Id": image_id}
        return {**about, "X-Model": model or self._tasks.model_name}

    def _reply(self, answer: Answer, min_confidence: float | None = None) -> str:
        """Answer in plain text, with the details in headers.

        The endpoints declare `str` for the OpenAPI page and BentoML's client. BentoML passes a Response on as it is,
        and skips building a schema for every answer.
        """
        headers = {
            **self._headers(answer.image_id),
            "X-New-Tokens": str(answer.new_tokens),
            "X-Finish-Reason": answer.finish_reason,
            "Server-Timing": ", ".join(
                f"{stage};dur={seconds * 1000:.1f}" for stage, seconds in answer.timings_s.items()
            ),
        }
        if answer.dropped_turns is not None:
            headers["X-Dropped-Turns"] = str(answer.dropped_turns)
        if answer.confidence is not None:
            headers["X-Confidence"] = f"{answer.confidence:.4f}"
        if answer.guards:
            headers["X-Guards"] = ", ".join(answer.guards)
        doubtful = needs_review(answer.confidence, min_confidence)
        if doubtful:
            headers["X-Needs-Review"] = "true"
        return cast(str, PlainTextResponse("" if doubtful else answer.text, headers=headers))


_ENDPOINTS = [method.route for method in Blip2.apis.values()]  # type: ignore[attr-defined]
_MODEL_PATHS = [*_ENDPOINTS, *(f"/v1{path}" for path in OPENAI_PATHS if path != "/models"), "/v2/rerank"]
_MODEL_PATHS += [*(f"/api{path}" for path in ollama.MODEL_PATHS), *(f"/hf{path}" for path in hf.PATHS)]
_MOUNTED = [*(f"/v1{path}" for path in OPENAI_PATHS), "/v2/rerank", "/ui/", MCP_PATH]
_MOUNTED += [*(f"/api{path}" for path in ollama.PATHS), *(f"/hf{path}" for path in hf.PATHS)]
bentoml_compat.apply([*_ENDPOINTS, *_MOUNTED])


def _check_room() -> None:
    _running_tasks().check_room()


stand_in_front(Blip2, _settings, _check_room, _MODEL_PATHS)
