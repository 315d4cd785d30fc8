"""Fields of a chat completion: bounds, neutral values, refusals, and the decoding options they give."""

from typing import Any

import pytest

from blip2_serve.api.openai.request import ChatRequest, validate_request
from blip2_serve.errors import InvalidField
from blip2_serve.families import FLAN_T5, INSTRUCTBLIP_FLAN_T5, OPT
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.completion import OutputOptions

LEAST: dict[str, object] = {"model": "blip2", "messages": [{}]}
GREEDY = DecodingOptions(num_beams=1, top_p=1.0, top_k=0)


def request(**fields: object) -> ChatRequest:
    return validate_request({**LEAST, **fields})


def test_without_a_temperature_one_beam_searches_greedily() -> None:
    assert request().options("caption", OPT) == GREEDY
    assert request(temperature=0, top_p=0.5, seed=3).options("chat", FLAN_T5).do_sample is False


def test_what_is_not_given_is_what_the_family_says() -> None:
    assert request().options("caption", INSTRUCTBLIP_FLAN_T5).repetition_penalty == 1.5
    assert request().options("vqa", INSTRUCTBLIP_FLAN_T5).max_new_tokens == 10
    given = request(repetition_penalty=1.0, max_tokens=20).options("caption", INSTRUCTBLIP_FLAN_T5)
    assert (given.repetition_penalty, given.max_new_tokens) == (1.0, 20)


def test_a_temperature_draws_with_openais_defaults() -> None:
    options = request(temperature=0.5, n=3, seed=7).options("chat", OPT)
    assert (options.do_sample, options.temperature, options.top_p, options.top_k) == (True, 0.5, 1.0, 0)
    assert (options.num_return_sequences, options.seed) == (3, 7)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_limit_are_known(name: str) -> None:
    assert request(**{name: 7}).options("vqa", OPT).max_new_tokens == 7


def test_the_defaults_of_a_task_are_those_of_its_endpoint() -> None:
    assert request().options("vqa", FLAN_T5).max_new_tokens == 10
    assert request(num_beams=5).options("vqa", FLAN_T5).length_penalty == -1.0
    assert request(num_beams=5).options("chat", FLAN_T5).length_penalty == 1.0


def test_stop_is_a_text_or_some() -> None:
    assert request(stop=" of").output == OutputOptions((" of",))
    assert request(stop=["a", "b", "c", "d"], logprobs=True, top_logprobs=3).output == OutputOptions(
        ("a", "b", "c", "d"), 3
    )


NEUTRAL: dict[str, object] = {
    "user": "ada",
    "metadata": {"anything": "goes"},
    "store": False,
    "stream": False,
    "n": 1,
    "logit_bias": {},
    "presence_penalty": 0,
    "frequency_penalty": 0.0,
    "parallel_tool_calls": True,
    "tools": [],
    "tool_choice": "auto",
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "service_tier": "auto",
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_what_changes_nothing_is_taken(name: str) -> None:
    assert request(**{name: NEUTRAL[name]}) == request()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"store": True}, "store"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"frequency_penalty": False}, "frequency_penalty"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"functions": [{}]}, "functions"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "ash"}}, "audio"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"max_new_tokens": 5}, "max_new_tokens"),
    ({"n": 17, "temperature": 1}, "n"),
    ({"n": 2}, "n"),
    ({"max_tokens": 257}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"temperature": 2.5}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"seed": -1}, "seed"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": ""}, "stop"),
    ({"stop": "\ud800"}, "stop"),
    ({"top_logprobs": 1}, "top_logprobs"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"more": 1}}, "stream_options"),
    ({"num_beams": 2, "temperature": 1}, "num_beams"),
    ({"num_beams": 2, "n": 2}, "n"),
    ({"num_beams": 2, "stream": True}, "stream"),
    ({"num_beams": 2, "logprobs": True}, "logprobs"),
    ({"num_beams": 2, "stop": "a"}, "stop"),
    ({"num_beams": 17}, "num_beams"),
    ({"task": "embed"}, "task"),
    ({"messages": "what?"}, "messages"),
    ({"messages": []}, "messages"),
    ({"model": 1}, "model"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_other_values_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidField, match=param) as refused:
        request(**fields)
    assert refused.value.about == param


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_model_and_messages_have_to_be_there(missing: str) -> None:
    with pytest.raises(InvalidField, match=missing):
        validate_request({name: value for name, value in LEAST.items() if name != missing})
