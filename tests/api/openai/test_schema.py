"""The OpenAPI schemas of a response's and a completion's body accept and refuse what the parsers do."""

from typing import Any

import jsonschema_rs
import pytest

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai.completions import request as completions
from blip2_serve.api.openai.completions.schema import completions_schema
from blip2_serve.api.openai.responses import request as responses
from blip2_serve.api.openai.responses.items import read_items
from blip2_serve.api.openai.responses.schema import responses_schema
from blip2_serve.errors import InvalidField

CONTENT = [{"type": "input_image", "image_url": "data:,", "detail": "auto"}, {"type": "input_text", "text": "what?"}]
RESPONSE: dict[str, Any] = {"model": "blip2", "input": [{"role": "user", "content": CONTENT}]}
COMPLETION: dict[str, Any] = {"model": "blip2", "image": "data:,"}
SCHEMAS = {
    "responses": jsonschema_rs.validator_for(responses_schema()),
    "completions": jsonschema_rs.validator_for(completions_schema()),
}

TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("responses", {**RESPONSE, "max_output_tokens": -1, "instructions": "be brief", "store": True}),
    ("responses", {**RESPONSE, "text": {"format": {"type": "text"}}, "tools": [{"type": "web_search"}], "n": 3}),
    ("responses", {**RESPONSE, "previous_response_id": None, "include": ["reasoning.encrypted_content"]}),
    ("responses", {**RESPONSE, "input": [{"type": "reasoning", "summary": []}, *RESPONSE["input"]]}),
    ("completions", {**COMPLETION, "prompt": ["a photo of"], "best_of": 3, "suffix": ""}),
    ("completions", {**COMPLETION, "prompt": None, "logprobs": 0, "max_tokens": 4096, "seed": -1}),
    ("completions", {**COMPLETION, "stream": True, "stream_options": {"include_usage": True}, "stop": ["a"]}),
]
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("responses", {**RESPONSE, "previous_response_id": "resp_1"}),
    ("responses", {**RESPONSE, "background": True}),
    ("responses", {**RESPONSE, "text": {"format": {"type": "json_object"}}}),
    ("responses", {**RESPONSE, "input": []}),
    ("responses", {**RESPONSE, "input": [{"role": "user", "content": [{"type": "input_audio"}]}]}),
    ("completions", {"model": "blip2", "prompt": "a"}),
    ("completions", {**COMPLETION, "prompt": [1, 2]}),
    ("completions", {**COMPLETION, "prompt": ["a", "b"]}),
    ("completions", {**COMPLETION, "suffix": "."}),
    ("completions", {**COMPLETION, "logprobs": 21}),
]


def parse(kind: str, body: dict[str, Any]) -> None:
    """Parse a body as the endpoint does."""
    given = {name: value for name, value in body.items() if value is not None}
    if kind == "responses":
        read_items(responses.validate_request(given, Ignored()).input, Ignored())
    else:
        completions.validate_request(given, Ignored())


@pytest.mark.parametrize(("kind", "body"), TAKEN)
def test_what_the_parser_takes_fits_the_schema(kind: str, body: dict[str, Any]) -> None:
    parse(kind, body)
    SCHEMAS[kind].validate(body)


@pytest.mark.parametrize(("kind", "body"), REFUSED)
def test_what_does_not_fit_the_schema_is_refused(kind: str, body: dict[str, Any]) -> None:
    assert not SCHEMAS[kind].is_valid(body)
    with pytest.raises(InvalidField):
        parse(kind, body)
