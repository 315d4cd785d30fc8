"""JSON Schema of a response's body: all that `request` and `items` accept."""

from blip2_serve.api.openai.chat.schema import CONTENT, MESSAGES
from blip2_serve.api.openai.responses.request import IGNORED, REFUSED, ResponseRequest
from blip2_serve.api.openai.schema import Schema, body_schema

_ITEM: Schema = {
    "anyOf": [
        *MESSAGES,
        {
            "type": "object",
            "properties": {"type": {"enum": ["reasoning", "function_call", "function_call_output"]}},
            "required": ["type"],
            "description": "and items of other types: ignored",
        },
    ]
}
_TEXT = {
    "anyOf": [
        {"type": "object", "properties": {"format": {"enum": [{"type": "text"}, None]}}},
        {"type": "null"},
    ],
    "description": "BLIP-2 writes plain text",
}


def responses_schema() -> Schema:
    """Build the schema of the body."""
    schema = body_schema(ResponseRequest, REFUSED, IGNORED)
    items = {"type": "array", "items": _ITEM, "minItems": 1}
    schema["properties"]["input"]["anyOf"] = [CONTENT["anyOf"][0], items]
    schema["properties"]["text"] = _TEXT
    return schema
