"""Read a message, and take the picture out of it: the protocol's library reads the rest, on the event loop."""

import asyncio
import json
import re
from dataclasses import dataclass

from starlette.requests import Request

from blip2_serve.api.body import read_json_body
from blip2_serve.api.image_text import ID_PATTERN
from blip2_serve.api.inputs import ID_PREFIX, image_of
from blip2_serve.clients import current_client
from blip2_serve.errors import Blip2Error, InvalidField, InvalidImage
from blip2_serve.images import ImageSource

# Of a message without its picture, in bytes: the longest question, the most choices, a long conversation.
MAX_MESSAGE_BYTES = 2**18
CALL = "blip2_serve.mcp_call"
"""The key of a request's scope under which its `Call` stands."""

_EXAMPLE = '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'


@dataclass(frozen=True, slots=True)
class Call:
    """Of a message: what the library does not see. `picture` may be the error that it is answered with."""

    client: str
    picture: ImageSource | Blip2Error

    def image(self) -> ImageSource:
        """Return the picture, or raise the error."""
        if isinstance(self.picture, Blip2Error):
            raise self.picture
        return self.picture


async def read_message(request: Request) -> tuple[bytes, Call]:
    """Read one JSON-RPC message: its bytes with an empty string for `image`, and the picture.

    Raises:
        InvalidField: it is no JSON object, or has more than MAX_MESSAGE_BYTES beside its picture.
        UnsupportedBody: the Content-Type is not application/json.
    """
    values = await read_json_body(request, _EXAMPLE)
    message, picture = await asyncio.to_thread(_split, values)  # megabytes of base64
    if len(message) > MAX_MESSAGE_BYTES:
        raise InvalidField(f"The message has more than {MAX_MESSAGE_BYTES} bytes beside its picture: shorten it.")
    return message, Call(current_client.get(), picture)


def _split(values: dict[str, object]) -> tuple[bytes, ImageSource | Blip2Error]:
    params = values.get("params")
    arguments = params.get("arguments") if isinstance(params, dict) else None
    picture = arguments.get("image") if isinstance(arguments, dict) else None
    if isinstance(arguments, dict) and isinstance(picture, str):
        arguments["image"] = ""
    return json.dumps(values).encode(), _picture(picture)


def _picture(sent: object) -> ImageSource | Blip2Error:
    """Parse a picture; what fails is told where the call is answered."""
    is_id = isinstance(sent, str) and re.fullmatch(ID_PATTERN, sent)
    try:
        return image_of(f"{ID_PREFIX}{sent}" if is_id else sent, "image")
    except InvalidImage as error:
        return error
