"""Fields of a response's request: what is read, ignored and named, or refused."""

from typing import Any

import pytest

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai.responses.request import ResponseRequest, validate_request
from blip2_serve.errors import InvalidField
from blip2_serve.families import OPT

LEAST: dict[str, object] = {"model": "blip2", "input": [{}]}


def request(**fields: object) -> ResponseRequest:
    return validate_request({**LEAST, **fields}, Ignored())


def test_a_text_is_one_message_of_a_user() -> None:
    assert request(input="what?").input == [{"role": "user", "content": "what?"}]


def test_the_limit_and_our_own_options_reach_the_engine() -> None:
    options = request(max_output_tokens=7, num_beams=3, min_tokens=2).options("caption", OPT)
    assert (options.max_new_tokens, options.num_beams, options.min_new_tokens) == (7, 3, 2)
    assert options.num_return_sequences == 1
    assert request(max_output_tokens=-1).options("caption", OPT).max_new_tokens == 256
    with pytest.raises(InvalidField, match="above max_output_tokens, 10"):
        request(min_tokens=20).options("vqa", OPT)


@pytest.mark.parametrize(
    ("fields", "tells", "num_likely"),
    [
        ({}, False, 0),
        ({"top_logprobs": 2}, True, 2),
        ({"include": ["message.output_text.logprobs"]}, True, 0),
    ],
)
def test_log_probabilities_are_asked_for_in_two_ways(fields: dict[str, Any], tells: bool, num_likely: int) -> None:
    asked = request(**fields)
    assert (asked.tells_logprobs, asked.output.top_logprobs) == (tells, num_likely)


IGNORED: dict[str, tuple[object, str]] = {
    "instructions": ("be brief", "instructions"),
    "store": (True, "store"),
    "tools": ([{"type": "web_search"}], "tools"),
    "reasoning": ({"effort": "high"}, "reasoning"),
    "truncation": ("disabled", "truncation"),
    "max_tool_calls": (3, "max_tool_calls"),
    "n": (2, "n"),
    "max_tokens": (5, "max_tokens"),
    "include": (["reasoning.encrypted_content"], "include.reasoning.encrypted_content"),
    "text": ({"format": {"type": "text"}, "verbosity": "low"}, "text.verbosity"),
    "stream_options": ({"include_obfuscation": False}, ""),
    "parallel_tool_calls": (True, ""),
    "tool_choice": ("auto", ""),
}


@pytest.mark.parametrize("name", IGNORED)
def test_what_cannot_be_followed_is_named(name: str) -> None:
    value, named = IGNORED[name]
    ignored = Ignored()
    asked = validate_request({**LEAST, "stream": True, name: value}, ignored)
    assert asked.options("chat", OPT) == request().options("chat", OPT)
    assert ignored.headers.get("X-Ignored", "") == named


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"previous_response_id": "resp_1"}, "previous_response_id", "send all of it as input"),
    ({"conversation": {"id": "conv_1"}}, "conversation", "send all of it as input"),
    ({"background": True}, "background", "wait for it"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt", "send the text"),
    ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {}}}}, "text.format", "plain text"),
    ({"text": "short"}, "text", "no object"),
    ({"tool_choice": "required"}, "tool_choice", "no tools"),
    ({"input": []}, "input", "at least 1"),
    ({"input": 5}, "input", "list"),
    ({"num_beams": 2, "top_logprobs": 1}, "top_logprobs", "num_beams 1"),
    ({"num_beams": 2, "stream": True}, "stream", "num_beams 1"),
    ({"top_logprobs": 21}, "top_logprobs", "20"),
    ({"include": "everything"}, "include", "list"),
]


@pytest.mark.parametrize(("fields", "param", "words"), REFUSED)
def test_what_no_caller_can_do_without_is_refused(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(InvalidField, match=words) as refused:
        request(**fields)
    assert refused.value.about == param
