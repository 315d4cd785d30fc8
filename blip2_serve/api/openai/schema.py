"""JSON Schema of a request's body for the OpenAPI page: all that is accepted, what is ignored included."""

from typing import Any

from blip2_serve.api.openai.unsupported import NOTES, Table
from blip2_serve.api.openai.writing import WritingRequest

Schema = dict[str, Any]

_LIMIT: Schema = {"anyOf": [{"type": "integer", "minimum": 1}, {"enum": [-1, None]}]}
# Wider than pydantic's bounds, see `habits`.
_HABITS: Schema = {
    "max_tokens": _LIMIT,
    "max_completion_tokens": _LIMIT,
    "max_output_tokens": _LIMIT,
    "seed": {"anyOf": [{"type": "integer", "minimum": -1, "exclusiveMaximum": 2**63}, {"type": "null"}]},
    "top_k": {"anyOf": [{"type": "integer", "minimum": -1, "maximum": 1_000_000}, {"type": "null"}]},
    "top_p": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]},
}
PICTURE: Schema = {
    "type": "string",
    "description": "a data: URI, a URL, or image-id: and the X-Image-Id of an earlier answer",
}


def object_schema(required: list[str], **fields: Schema) -> Schema:
    """Describe an object with known fields; others are ignored."""
    return {"type": "object", "properties": fields, "required": required}


def body_schema(model: type[WritingRequest], refusing: Table, ignoring: Table) -> Schema:
    """Build the schema with every $ref inlined: FastAPI collects only the models it parses itself."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    for field in schema["properties"].values():
        for option in field.get("anyOf", ()):
            if "$ref" in option:
                option.update(definitions[option.pop("$ref").rsplit("/", 1)[-1]])
    for name, wider in _HABITS.items():
        if told := schema["properties"].get(name):
            schema["properties"][name] = {key: told[key] for key in ("title", "description", "default")} | wider
    schema["properties"].update(_taken_and_ignored(refusing, ignoring))
    schema["additionalProperties"] = {"description": "ignored"}
    return schema


def _taken_and_ignored(refusing: Table, ignoring: Table) -> Schema:
    """Describe the fields that clients send unasked: those that are refused, but for values that ask for nothing."""
    refused = {
        name: {"enum": [*values, None], "description": f"changes nothing; {reason}"}
        for name, (values, reason) in refusing.items()
    }
    ignored = {name: {"description": f"ignored; {reason}"} for name, (_, reason) in ignoring.items()}
    return {**refused, **ignored, **{name: {"description": "the caller's own note; ignored"} for name in NOTES}}
