"""The OpenAPI schema of a chat completion's body accepts and refuses what the parser does."""

from typing import Any

import jsonschema_rs
import pytest

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai.chat.request import validate_request
from blip2_serve.api.openai.chat.schema import chat_schema
from blip2_serve.api.openai.messages import read_conversation
from blip2_serve.errors import InvalidField

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
ASKED = {"role": "user", "content": [PICTURE, {"type": "text", "text": "what is it?"}]}
ANSWERED = {"role": "assistant", "content": "a star", "refusal": None, "tool_calls": [], "annotations": []}
BODY = {"model": "blip2", "messages": [ASKED]}
SCHEMA = jsonschema_rs.validator_for(chat_schema())

TAKEN: list[dict[str, Any]] = [
    {},
    {"messages": [ASKED, ANSWERED, {"role": "user", "content": "why?"}]},
    {"stop": "end", "n": 2, "temperature": 1.5, "seed": 2**63 - 1},
    {"stop": ["a", "b"], "stream": True, "stream_options": {"include_usage": True}},
    {"user": "somebody", "metadata": {"of": ["any", "kind"]}, "tools": [{"type": "function"}], "frequency_penalty": 1},
    {"messages": [{"role": "system", "content": "be kind"}, {**ASKED, "name": "me"}], "best_of": 2},
    {"messages": [{"role": "user", "content": [{**PICTURE, "image_url": {"url": "", "detail": "high"}}]}]},
    {"messages": [{"role": "user", "content": [{**PICTURE, "image_url": "data:,"}]}]},
    {"max_tokens": -1, "seed": -1, "top_k": -1, "top_p": 0, "stop": ""},
    {"max_completion_tokens": 100_000, "max_tokens": None},
]
REFUSED: list[dict[str, Any]] = [
    {"messages": []},
    {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
    {"stop": ["a"] * 5},
    {"n": 17},
    {"seed": 2**63},
    {"response_format": {"type": "json_object"}},
    {"logit_bias": {"5": 1}},
    {"tool_choice": "required"},
    {"max_tokens": 0},
]


def parse(body: dict[str, Any]) -> None:
    """Parse a body as the endpoint does."""
    read_conversation(validate_request(body, Ignored()).messages, Ignored())


@pytest.mark.parametrize("change", TAKEN, ids=str)
def test_what_the_parser_takes_fits_the_schema(change: dict[str, Any]) -> None:
    parse({**BODY, **change})
    SCHEMA.validate({**BODY, **change})


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: str(change)[:60])
def test_what_does_not_fit_the_schema_is_refused(change: dict[str, Any]) -> None:
    assert not SCHEMA.is_valid({**BODY, **change})
    with pytest.raises(InvalidField):
        parse({**BODY, **change})
