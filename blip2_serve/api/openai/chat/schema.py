"""JSON Schema of a chat completion's body: all that `request` and `messages` accept."""

from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, MAX_TURNS
from blip2_serve.api.openai.chat.request import ChatRequest
from blip2_serve.api.openai.messages import LEFT_OUT
from blip2_serve.api.openai.schema import PICTURE, Schema, body_schema, object_schema
from blip2_serve.api.openai.unsupported import IGNORED, REFUSED

_TEXT: Schema = {"type": "string", "maxLength": MAX_TEXT_CHARACTERS}
_TEXT_PART = object_schema(["type", "text"], type={"enum": ["text", "input_text", "output_text"]}, text=_TEXT)
_IMAGE_URL = {"anyOf": [PICTURE, object_schema(["url"], url=PICTURE)]}
_PICTURE_PART = object_schema(["type", "image_url"], type={"enum": ["image_url", "input_image"]}, image_url=_IMAGE_URL)
CONTENT: Schema = {"anyOf": [_TEXT, {"type": "array", "items": {"anyOf": [_TEXT_PART, _PICTURE_PART]}}]}
MESSAGES: list[Schema] = [
    object_schema(["role", "content"], role={"enum": ["user", "assistant"]}, content=CONTENT),
    object_schema(["role"], role={"enum": [*LEFT_OUT], "description": "ignored"}),
]


def chat_schema() -> Schema:
    """Build the schema of the body."""
    schema = body_schema(ChatRequest, REFUSED, IGNORED)
    schema["properties"]["messages"].update(items={"anyOf": MESSAGES}, maxItems=2 * MAX_TURNS)
    return schema
