"""POST /v1/responses: answer the last message of a conversation about a picture."""

import asyncio

from fastapi import Request, Response

from blip2_serve.api.body import read_json_body
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.models import check_model
from blip2_serve.api.openai.answering import Call, answer
from blip2_serve.api.openai.images import image_of
from blip2_serve.api.openai.responses.answers import ResponseAnswer
from blip2_serve.api.openai.responses.items import read_items
from blip2_serve.api.openai.responses.render import Events, response_json
from blip2_serve.api.openai.responses.request import EXAMPLE, validate_request
from blip2_serve.tasks.verbs import Tasks


async def answer_response(request: Request, tasks: Tasks) -> Response:
    """Answer a request for a response.

    Raises:
        Blip2Error: the request was refused, or failed.
    """
    call, begun, logprobs = await _read(request, tasks)
    events = Events(begun, logprobs=logprobs)
    return await answer(request, call, tasks, lambda done: response_json(begun, done, logprobs=logprobs), events.events)


async def _read(request: Request, tasks: Tasks) -> tuple[Call, ResponseAnswer, bool]:
    """Read a request; returns also the beginning of its answer, and if log-probabilities are told."""
    ignored = Ignored(strict=tasks.settings.strict == "on")
    body = validate_request(await read_json_body(request, EXAMPLE), ignored)
    family = tasks.family  # first: a server that writes no text says so, whatever model is named
    check_model(body.model, tasks.model_name, tasks)
    conversation = read_items(body.input, ignored)
    asked = conversation.asked(body.task)
    image = await asyncio.to_thread(image_of, conversation.image, "An image_url")  # megabytes of base64
    options = body.options(asked.task, family)
    call = Call(image, asked, options, body.output, body.stream, ignored, conversation.dropped_turns)
    return call, ResponseAnswer.begun(tasks.model_name, body, options), body.tells_logprobs
