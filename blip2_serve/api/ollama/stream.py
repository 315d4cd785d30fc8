"""Stream an answer as newline-delimited JSON: an object for every piece, and one that ends it.

An error after the first token is a line too, `{"error": "..."}`, as Ollama's is.
"""

import json
from collections.abc import AsyncGenerator

from blip2_serve.api.errors import public_error
from blip2_serve.api.ollama.answers import Values, Writer
from blip2_serve.api.openai.stream import EventStream
from blip2_serve.tasks.completion import CompletedRequest
from blip2_serve.tasks.stream import CompletionStream, StreamPart


class LineStream(EventStream):
    """Sends the lines of a stream; a caller that leaves, even before the first one, ends the work at once."""

    media_type = "application/x-ndjson"


async def lines(stream: CompletionStream, writer: Writer) -> AsyncGenerator[str, None]:
    """Yield the lines of a stream that has started; those that are there at once go out together."""
    ready: list[str] = []
    try:
        async for part in stream:
            ready += map(_line, _values_of(part, writer))
            if ready and not stream.has_more_at_hand:
                yield "".join(ready)
                ready.clear()
    except Exception as error:
        yield "".join([*ready, _line({"error": public_error(error).message})])


def _values_of(part: StreamPart, writer: Writer) -> list[Values]:
    if isinstance(part, CompletedRequest):
        return [writer.end(part)]
    tokens = () if part.token is None else (part.token,)
    return [writer.piece(part.text, tokens)] if part.text or tokens else []


def _line(values: Values) -> str:
    return json.dumps(values) + "\n"
