"""POST /v1/completions: continue a text about a picture, exactly as given."""

import asyncio

from fastapi import Request, Response

from blip2_serve.api.body import read_json_body
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.models import check_model
from blip2_serve.api.openai.answering import Call, answer
from blip2_serve.api.openai.completions.continuation import Continuation
from blip2_serve.api.openai.completions.render import Telling, TextChunks, completion_json
from blip2_serve.api.openai.completions.request import EXAMPLE, validate_request
from blip2_serve.api.openai.images import image_of
from blip2_serve.tasks.prompt import PromptSpec
from blip2_serve.tasks.verbs import Tasks


async def answer_completion(request: Request, tasks: Tasks) -> Response:
    """Answer a completion.

    Raises:
        Blip2Error: the request was refused, or failed.
    """
    call, telling = await _read(request, tasks)
    chunks = TextChunks(telling, call.options.num_return_sequences)
    return await answer(request, call, tasks, lambda done: completion_json(telling, done), chunks.events)


async def _read(request: Request, tasks: Tasks) -> tuple[Call, Telling]:
    ignored = Ignored(strict=tasks.settings.strict == "on")
    body = validate_request(await read_json_body(request, EXAMPLE), ignored)
    family = tasks.family  # first: a server that writes no text says so, whatever model is named
    check_model(body.model, tasks.model_name, tasks)
    asked = PromptSpec("prefix", body.prompt)
    image = await asyncio.to_thread(image_of, body.image, "image")  # megabytes of base64
    call = Call(image, asked, body.options("prefix", family), body.output, body.stream, ignored)
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    continuation = Continuation.of(body.prompt, family, echo=body.echo)
    return call, Telling(tasks.model_name, continuation, body.tells_logprobs, include_usage)
