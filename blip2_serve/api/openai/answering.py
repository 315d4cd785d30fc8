"""Run a request that has been read, and answer it at once or as a stream."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from fastapi import Request, Response

from blip2_serve.api.disconnect import while_connected
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai.stream import EventStream
from blip2_serve.images import ImageSource
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.completion import CompletedRequest, OutputOptions
from blip2_serve.tasks.prompt import PromptSpec
from blip2_serve.tasks.stream import CompletionStream
from blip2_serve.tasks.verbs import Tasks


@dataclass(frozen=True, slots=True)
class Call:
    """A parsed request; it does not keep the body, megabytes of base64."""

    image: ImageSource
    asked: PromptSpec
    options: DecodingOptions
    output: OutputOptions
    stream: bool
    ignored: Ignored
    dropped_turns: int = 0

    def headers(self, done: CompletedRequest | CompletionStream) -> dict[str, str]:
        """Build the headers of the answer."""
        return headers_of(done, self.dropped_turns, self.ignored)


def headers_of(done: CompletedRequest | CompletionStream, dropped_turns: int, ignored: Ignored) -> dict[str, str]:
    """Build the headers of an answer; `dropped_turns` were about earlier pictures."""
    num_dropped = (done.dropped_turns or 0) + dropped_turns
    told = done.dropped_turns is not None or num_dropped > 0
    dropped = {"X-Dropped-Turns": str(num_dropped)} if told else {}
    guards = {"X-Guards": ", ".join(done.guards)} if isinstance(done, CompletedRequest) and done.guards else {}
    return {"X-Image-Id": done.image_id, **dropped, **guards, **ignored.headers}


async def answer(
    request: Request,
    call: Call,
    tasks: Tasks,
    render: Callable[[CompletedRequest], str],
    events: Callable[[CompletionStream], AsyncGenerator[str, None]],
) -> Response:
    """Answer at once, with the JSON that `render` makes, or send `events`.

    A stream begins once its first token is there, so that what fails until then has its own status.

    Raises:
        Blip2Error: the request was refused, or failed.
    """
    asked = call.image, call.asked, call.options, call.output
    if call.stream:
        stream = await while_connected(request, tasks.stream(*asked))
        return EventStream(stream, events(stream), call.headers(stream))
    done = await while_connected(request, tasks.complete(*asked))
    # 16 answers with 20 likely tokens at each place are megabytes.
    body = await asyncio.to_thread(render, done)
    return Response(body, headers=call.headers(done), media_type="application/json")
