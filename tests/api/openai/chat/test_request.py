"""Fields of a chat completion: bounds, habits, what is ignored or refused, and the decoding options they give."""

from typing import Any

import pytest

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai.chat.request import ChatRequest, validate_request
from blip2_serve.errors import InvalidField
from blip2_serve.families import FLAN_T5, INSTRUCTBLIP_FLAN_T5, OPT
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.completion import OutputOptions

LEAST: dict[str, object] = {"model": "blip2", "messages": [{}]}
GREEDY = DecodingOptions(num_beams=1, top_p=1.0, top_k=0)


def request(**fields: object) -> ChatRequest:
    return validate_request({**LEAST, **fields}, Ignored())


def strict(**fields: object) -> ChatRequest:
    return validate_request({**LEAST, **fields}, Ignored(strict=True))


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
    "response_format": {"type": "text", "json_schema": None},
    "guided_choice": [],
    "modalities": ["text"],
    "service_tier": "auto",
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_what_changes_nothing_is_taken_even_by_a_strict_server(name: str) -> None:
    assert strict(**{name: NEUTRAL[name]}) == request()


IGNORED: dict[str, object] = {
    "user": "ada",
    "metadata": {"anything": "goes"},
    "store": True,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "tools": [{"type": "function"}],
    "functions": [{}],
    "parallel_tool_calls": 7,
    "reasoning_effort": "high",
    "service_tier": "flex",
    "web_search_options": {},
    "chat_template_kwargs": {"enable_thinking": False},
    "max_new_tokens": 5,
    "best_of": 2,
    "top_logprobs": 3,
    "stream_options": {"include_usage": True},
}


@pytest.mark.parametrize("name", IGNORED)
def test_what_another_model_would_follow_is_ignored_and_named(name: str) -> None:
    ignored = Ignored()
    assert validate_request({**LEAST, name: IGNORED[name]}, ignored) == request()
    assert ignored.headers == {"X-Ignored": name}
    if name not in ("user", "metadata"):
        with pytest.raises(InvalidField, match=name):
            strict(**{name: IGNORED[name]})


HABITS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"max_tokens": "-1"}, {"max_tokens": 256}),
    ({"max_tokens": "4096"}, {"max_tokens": 256}),
    ({"seed": -5, "temperature": 1}, {"temperature": 1}),
    ({"max_tokens": -1}, {"max_tokens": 256}),
    ({"max_tokens": 4096}, {"max_tokens": 256}),
    ({"max_completion_tokens": 100_000}, {"max_completion_tokens": 256}),
    ({"seed": -1, "temperature": 1}, {"temperature": 1}),
    ({"top_k": -1, "temperature": 1}, {"top_k": 0, "temperature": 1}),
    ({"top_p": 0, "temperature": 0.7}, {"temperature": 0}),
    ({"stop": ""}, {"stop": []}),
    ({"stop": ["", "a"]}, {"stop": ["a"]}),
]


@pytest.mark.parametrize(("sent", "meant"), HABITS)
def test_habits_are_read_as_they_are_meant(sent: dict[str, Any], meant: dict[str, Any]) -> None:
    assert request(**sent).options("caption", OPT) == request(**meant).options("caption", OPT)
    assert request(**sent).output == request(**meant).output
    with pytest.raises(InvalidField):
        strict(**sent)


def test_of_two_limits_the_newer_name_counts() -> None:
    ignored = Ignored()
    both = validate_request({**LEAST, "max_tokens": 5, "max_completion_tokens": 6}, ignored)
    assert (both.limit, ignored.headers) == (6, {"X-Ignored": "max_tokens"})


def test_unknown_options_of_a_stream_are_named() -> None:
    ignored = Ignored()
    options = {"include_usage": True, "include_obfuscation": True, "continuous_usage_stats": True}
    asked = validate_request({**LEAST, "stream": True, "stream_options": options}, ignored)
    assert asked.stream_options is not None
    assert asked.stream_options.include_usage
    assert set(ignored.headers["X-Ignored"].split(", ")) == {
        "stream_options.include_obfuscation",
        "stream_options.continuous_usage_stats",
    }


def test_options_of_our_own_reach_the_engine() -> None:
    options = request(min_tokens=3, no_repeat_ngram_size=2, min_p=0.1, temperature=1).options("caption", OPT)
    assert (options.min_new_tokens, options.no_repeat_ngram_size, options.min_p) == (3, 2, 0.1)
    assert request(guards=True).output.guards
    with pytest.raises(InvalidField, match="min_tokens is above max_tokens, 10"):
        request(min_tokens=20).options("vqa", OPT)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "look"}}}, "tool_choice"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
    ({"guided_json": {}}, "guided_json"),
    ({"max_tokens": -2}, "max_tokens"),
    ({"guards": True, "stream": True}, "guards"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "ash"}}, "audio"),
    ({"n": 17, "temperature": 1}, "n"),
    ({"n": 2}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"temperature": 2.5}, "temperature"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": "\ud800"}, "stop"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
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
        validate_request({name: value for name, value in LEAST.items() if name != missing}, Ignored())
