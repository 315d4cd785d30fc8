"""POST /v1/chat/completions: answer the last message of a conversation about a picture."""

import asyncio

from fastapi import Request, Response

from blip2_serve.api.body import read_json_body
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.models import check_model
from blip2_serve.api.openai.answering import Call, answer
from blip2_serve.api.openai.chat.chunks import Chunks
from blip2_serve.api.openai.chat.render import completion_json
from blip2_serve.api.openai.chat.request import EXAMPLE, validate_request
from blip2_serve.api.openai.images import image_of
from blip2_serve.api.openai.messages import read_conversation
from blip2_serve.tasks.verbs import Tasks


async def answer_chat(request: Request, tasks: Tasks) -> Response:
    """Answer a chat completion.

    Raises:
        Blip2Error: the request was refused, or failed.
    """
    call, logprobs, include_usage = await _read(request, tasks)
    model = tasks.model_name
    chunks = Chunks(model, logprobs=logprobs, include_usage=include_usage)
    num_answers = call.options.num_return_sequences
    return await answer(
        request,
        call,
        tasks,
        lambda done: completion_json(model, done, logprobs=logprobs),
        lambda stream: chunks.events(stream, num_answers),
    )


async def _read(request: Request, tasks: Tasks) -> tuple[Call, bool, bool]:
    """Read a request; returns also if log-probabilities are told, and a stream's usage."""
    ignored = Ignored(strict=tasks.settings.strict == "on")
    body = validate_request(await read_json_body(request, EXAMPLE), ignored)
    family = tasks.family  # first: a server that writes no text says so, whatever model is named
    check_model(body.model, tasks.model_name, tasks)
    conversation = read_conversation(body.messages, ignored)
    asked = conversation.asked(body.task)
    image = await asyncio.to_thread(image_of, conversation.image)  # megabytes of base64
    options = body.options(asked.task, family)
    call = Call(image, asked, options, body.output, body.stream, ignored, conversation.dropped_turns)
    return call, body.logprobs, body.stream_options is not None and body.stream_options.include_usage
