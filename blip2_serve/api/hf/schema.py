"""JSON Schemas of the tasks' bodies for the OpenAPI page."""

from typing import Any

from pydantic import BaseModel

from blip2_serve.api.hf.labels import Labels
from blip2_serve.api.native.caption import CaptionFields
from blip2_serve.api.native.fields import DecodingFields

Schema = dict[str, Any]

_PICTURE: Schema = {"type": "string", "description": "base64, a data: URI, a URL, or image-id: and an X-Image-Id"}
_IGNORED: Schema = {"description": "ignored"}


def _object(required: list[str], fields: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": fields, "additionalProperties": _IGNORED}


def _fields_of(model: type[BaseModel], without: tuple[str, ...] = ()) -> Schema:
    fields = model.model_json_schema()["properties"]
    return {name: field for name, field in fields.items() if name not in without}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


_WRITING = _fields_of(DecodingFields)
_CAPTION = {
    "prompt": {"type": "string", "description": "how the caption begins"},
    **_fields_of(CaptionFields, ("img", "img_id", "txt", "min_confidence")),
}
_QUESTION = {**_WRITING, "top_k": {"type": "integer", "minimum": 1, "description": "most answers; up to 16"}}

CAPTIONED: Schema = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    **_json(_object(["inputs"], {"inputs": _PICTURE, "parameters": _object([], _CAPTION)})),
}
ANSWERED: Schema = _json(
    _object(
        ["inputs"],
        {
            "inputs": _object(["image", "question"], {"image": _PICTURE, "question": {"type": "string"}}),
            "parameters": _object([], _QUESTION),
        },
    )
)
LABELLED: Schema = _json(
    _object(
        ["inputs", "parameters"],
        {"inputs": _PICTURE, "parameters": _object(["candidate_labels"], _fields_of(Labels))},
    )
)
