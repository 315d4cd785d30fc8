"""JSON Schema of a chat completion's body for the OpenAPI page: all that `request` and `messages` accept."""

from typing import Any

from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, MAX_TURNS
from blip2_serve.api.openai.messages import LEFT_OUT
from blip2_serve.api.openai.request import IGNORED, NOTES, REFUSED, ChatRequest

Schema = dict[str, Any]


def _object(required: list[str], **fields: Schema) -> Schema:
    """Describe an object with known fields; others are ignored."""
    return {"type": "object", "properties": fields, "required": required}


_TEXT: Schema = {"type": "string", "maxLength": MAX_TEXT_CHARACTERS}
_TEXT_PART = _object(["type", "text"], type={"enum": ["text", "input_text", "output_text"]}, text=_TEXT)
_URL = {"type": "string", "description": "a data: URI, a URL, or image-id: and the X-Image-Id of an earlier answer"}
_IMAGE_URL = {"anyOf": [_URL, _object(["url"], url=_URL)]}
_PICTURE_PART = _object(["type", "image_url"], type={"enum": ["image_url", "input_image"]}, image_url=_IMAGE_URL)
_CONTENT: Schema = {"anyOf": [_TEXT, {"type": "array", "items": {"anyOf": [_TEXT_PART, _PICTURE_PART]}}]}
_MESSAGES: Schema = {
    "anyOf": [
        _object(["role", "content"], role={"enum": ["user", "assistant"]}, content=_CONTENT),
        _object(["role"], role={"enum": [*LEFT_OUT], "description": "ignored"}),
    ]
}
_LIMIT: Schema = {"anyOf": [{"type": "integer", "minimum": 1}, {"enum": [-1, None]}]}
# Wider than pydantic's bounds, see `habits`.
_HABITS: Schema = {
    "max_tokens": _LIMIT,
    "max_completion_tokens": _LIMIT,
    "seed": {"anyOf": [{"type": "integer", "minimum": -1, "exclusiveMaximum": 2**63}, {"type": "null"}]},
    "top_k": {"anyOf": [{"type": "integer", "minimum": -1, "maximum": 1_000_000}, {"type": "null"}]},
    "top_p": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]},
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
    for name, wider in _HABITS.items():
        told = schema["properties"][name]
        schema["properties"][name] = {key: told[key] for key in ("title", "description", "default")} | wider
    schema["additionalProperties"] = {"description": "ignored"}
    return schema


def _taken_and_ignored() -> Schema:
    """Describe the fields that clients send unasked: those that are refused, but for values that ask for nothing."""
    refused = {
        name: {"enum": [*values, None], "description": f"changes nothing; {reason}"}
        for name, (values, reason) in REFUSED.items()
    }
    ignored = {name: {"description": f"ignored; {reason}"} for name, (_, reason) in IGNORED.items()}
    return {**refused, **ignored, **{name: {"description": "the caller's own note; ignored"} for name in NOTES}}
