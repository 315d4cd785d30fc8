"""Correct BentoML's OpenAPI document: describe the bodies and answers that this service really has."""

import re
from typing import Any

from blip2_serve import __version__
from blip2_serve.api.openapi.bodies import describe_bodies
from blip2_serve.api.openapi.examples import add_examples
from blip2_serve.api.openapi.infrastructure import INFRASTRUCTURE, TAG
from blip2_serve.api.openapi.responses import describe_responses

_DESCRIPTION = (
    "Captions, answers and conversations about pictures, by BLIP-2; texts matched with pictures, and vectors of both,"
    " where a matching model is loaded. Every error, those of paths and methods that are not there (404, 405) included,"
    " is JSON in the shape Error, below /api and /hf as PlainError; a request that is repeated as it was fails"
    " again, unless its status is 429, 503 or 504."
)
_TAGS = [
    {"name": "Service APIs", "description": "Pictures in; text, scores or vectors out."},
    {"name": "OpenAI", "description": "The same for OpenAI's clients, with base_url at /v1."},
    {
        "name": "Reranking",
        "description": "Cohere's and Jina's protocol: pictures ranked by a text, or texts by a picture.",
    },
    {"name": "Ollama", "description": "The same for Ollama's clients, which add /api to the server's address."},
    {"name": "Hugging Face", "description": "The Hub's inference tasks: a client's model is the URL of one of these."},
    {"name": TAG, "description": "Probes, metrics and descriptions."},
]


def described(spec: dict[str, Any]) -> dict[str, Any]:
    """Turn BentoML's `spec` into this service's document; change it in place.

    The version is OpenAPI 3.1, whose schemas are JSON Schema, as pydantic writes them.
    """
    spec["openapi"] = "3.1.0"
    spec["info"] = {"title": "blip2-serve", "version": __version__, "description": _DESCRIPTION}
    spec["tags"] = _TAGS
    spec["paths"] = {
        path: item for path, item in spec["paths"].items() if "post" in item or path.startswith(("/v1", "/v2", "/api"))
    }
    describe_bodies(spec)
    describe_responses(spec)
    add_examples(spec)
    _name_operations(spec)
    spec["paths"].update(INFRASTRUCTURE)
    _forget_unused_schemas(spec)
    return spec


def _name_operations(spec: dict[str, Any]) -> None:
    for item in spec["paths"].values():
        for operation in item.values():
            operation["operationId"] = operation["operationId"].removeprefix("blip2__")
            operation.pop("x-bentoml-name", None)


def _forget_unused_schemas(spec: dict[str, Any]) -> None:
    """Drop unreferenced schemas, such as those of BentoML's errors, which ours replace."""
    schemas = spec["components"]["schemas"]
    used: set[str] = set()
    found = _names(spec["paths"])
    while found:
        used |= found
        found = set().union(*(_names(schemas[name]) for name in found)) - used
    spec["components"]["schemas"] = {name: schemas[name] for name in sorted(used)}


def _names(part: object) -> set[str]:
    """Collect the names of the schemas that `part` refers to."""
    return set(re.findall(r"'#/components/schemas/([^']+)'", repr(part)))
