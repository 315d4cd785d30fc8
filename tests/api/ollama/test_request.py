"""Bodies of Ollama's clients: what is followed, what is ignored and named, what is refused."""

from typing import Any

import pytest

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.ollama.request import ChatRequest, GenerateRequest, read_request
from blip2_serve.errors import InvalidField
from blip2_serve.families import INSTRUCTBLIP_FLAN_T5, OPT
from blip2_serve.options import DecodingOptions


def read(strict: bool = False, **values: Any) -> tuple[GenerateRequest, str]:
    ignored = Ignored(strict=strict)
    return read_request(GenerateRequest, {"model": "blip2", **values}, ignored), ignored.headers.get("X-Ignored", "")


def decoded(**options: Any) -> DecodingOptions:
    return read(options=options)[0].options.decoding(OPT)


def test_values_that_ask_for_nothing_are_taken_without_a_word_even_where_the_server_is_strict() -> None:
    neutral = {"suffix": "", "system": "", "template": "", "context": [], "format": "", "think": False, "tools": []}
    body, ignored = read(strict=True, **neutral, options={"presence_penalty": 0, "typical_p": 1.0, "seed": None})
    assert (body.stream, ignored) == (True, "")


def test_what_means_nothing_here_is_named_or_refused_where_the_server_is_strict() -> None:
    asks = {"format": "json", "think": "high", "keep_alive": "5m", "x" * 65: 1, "options": {"num_ctx": 8192}}
    assert read(**asks)[1] == "format, think, keep_alive, ?, options.num_ctx"
    for name in asks.keys() - {"keep_alive"}:
        with pytest.raises(InvalidField):
            read(strict=True, **{name: asks[name]})


def test_a_schema_cannot_be_followed() -> None:
    with pytest.raises(InvalidField, match="format asks for JSON by a schema") as refused:
        read(format={"type": "object"})
    assert refused.value.about == "format"


@pytest.mark.parametrize(("num_predict", "limit"), [(-1, 256), (-2, 256), (0, 256), (5, 5), (100_000, 256), (None, 30)])
def test_no_limit_means_the_cap(num_predict: int | None, limit: int) -> None:
    assert decoded(num_predict=num_predict).max_new_tokens == limit


def test_options_are_named_as_transformers_names_them_and_drawing_has_ollamas_defaults() -> None:
    asked = decoded(temperature=0.7, repeat_penalty=1.2, seed=3, min_p=0.1)
    assert (asked.do_sample, asked.temperature, asked.top_p, asked.top_k) == (True, 0.7, 0.9, 40)
    assert (asked.repetition_penalty, asked.seed, asked.min_p, asked.num_beams) == (1.2, 3, 0.1, 1)
    assert decoded(top_k=-1, seed=-1) == decoded(top_k=0)


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"temperature": 1, "top_p": 0}])
def test_no_temperature_or_no_share_takes_the_best_token(options: dict[str, Any]) -> None:
    assert not decoded(**options).do_sample


def test_a_familys_defaults_hold_for_what_is_not_given() -> None:
    body, _ = read()
    assert body.options.decoding(INSTRUCTBLIP_FLAN_T5).repetition_penalty == 1.5


def test_stop_texts_come_alone_or_in_a_list_and_empty_ones_end_nothing() -> None:
    assert read(options={"stop": "\n"})[0].output.stop == ("\n",)
    assert read(options={"stop": ["\n\n", ""]})[0].output.stop == ("\n\n",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"options": {"temperature": "hot"}}, "options.temperature: "),
        ({"options": {"stop": [3]}}, "options.stop.0: "),
        ({"options": {"stop": ["a" * 257]}}, "options.stop: "),
        ({"options": 3}, "options: "),
        ({"prompt": 3}, "prompt: "),
        ({"images": "AAAA"}, "images: "),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read(**values)
    assert refused.value.message.startswith(message)


def test_a_conversation_is_bounded() -> None:
    with pytest.raises(InvalidField, match="messages: "):
        read_request(ChatRequest, {"model": "blip2", "messages": [{}] * 513}, Ignored())


@pytest.mark.parametrize("name", ["x" * 257, "\ud800"])
def test_a_name_that_no_answer_should_repeat_is_refused(name: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read_request(GenerateRequest, {"model": name}, Ignored())
    assert refused.value.about == "model"


def test_guards_look_at_whole_answers() -> None:
    assert read_request(GenerateRequest, {"model": "blip2", "guards": True, "stream": False}, Ignored()).output.guards
    with pytest.raises(InvalidField, match="whole answers"):
        read_request(GenerateRequest, {"model": "blip2", "guards": True}, Ignored())
