"""JSON Schema of a chat completion's body for the OpenAPI page: all that `request` and `messages` accept."""

from typing import Any

from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, MAX_TURNS
from blip2_serve.api.openai.messages import EMPTY_IN_ANSWERS
from blip2_serve.api.openai.request import NEUTRAL, NOTES, ChatRequest

Schema = dict[str, Any]


def _object(required: list[str], **fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


_TEXT: Schema = {"type": "string", "maxLength": MAX_TEXT_CHARACTERS}
_TEXT_PART = _object(["type", "text"], type={"const": "text"}, text=_TEXT)
_URL = {"type": "string", "description": "a data: URI, a URL, or image-id: and the X-Image-Id of an earlier answer"}
_DETAIL = {"enum": ["auto", "low"], "description": "changes nothing"}
_IMAGE_URL = _object(["url"], url=_URL, detail=_DETAIL)
_PICTURE_PART = _object(["type", "image_url"], type={"const": "image_url"}, image_url=_IMAGE_URL)
_QUESTION: Schema = {"anyOf": [_TEXT, {"type": "array", "items": {"anyOf": [_TEXT_PART, _PICTURE_PART]}}]}
_ANSWER: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT_PART}]}
_NOTHING: Schema = {"enum": [None, []], "description": "changes nothing"}
_MESSAGES: Schema = {
    "anyOf": [
        _object(["role", "content"], role={"const": "user"}, content=_QUESTION),
        _object(
            ["role", "content"],
            role={"const": "assistant"},
            content=_ANSWER,
            **dict.fromkeys(EMPTY_IN_ANSWERS, _NOTHING),
        ),
    ]
}


def body_schema() -> Schema:
    """Build the schema with every $ref inlined: FastAPI collects only the models it parses itself."""
    schema = ChatRequest.model_json_schema()
    definitions = schema.pop("$defs", {})
    for field in schema["properties"].values():
        for option in field.get("anyOf", ()):
            if "$ref" in option:
                option.update(definitions[option.pop("$ref").rsplit("/", 1)[-1]])
    schema["properties"]["messages"].update(items=_MESSAGES, maxItems=2 * MAX_TURNS)
    schema["properties"].update(_taken_and_ignored())
    return schema


def _taken_and_ignored() -> Schema:
    """Describe the fields that clients send unasked, with the values that change nothing."""
    neutral = {
        name: {"enum": [*values, None], "description": f"changes nothing; {reason}"}
        for name, (values, reason) in NEUTRAL.items()
    }
    return {**neutral, **{name: {"description": "the caller's own note; changes nothing"} for name in NOTES}}
