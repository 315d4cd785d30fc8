"""Fields of a completion: a prompt as it is, a picture, and what is ignored or refused."""

from typing import Any

import pytest

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai.completions.request import CompletionRequest, validate_request
from blip2_serve.errors import InvalidField
from blip2_serve.families import OPT

LEAST: dict[str, object] = {"model": "blip2", "image": "data:,"}


def request(**fields: object) -> CompletionRequest:
    return validate_request({**LEAST, **fields}, Ignored())


@pytest.mark.parametrize(("prompt", "read"), [(" a photo of ", " a photo of "), (["a"], "a"), ("", ""), ([""], "")])
def test_a_prompt_is_taken_as_it_is(prompt: object, read: str) -> None:
    assert request(prompt=prompt).prompt == read


def test_without_a_prompt_a_caption_is_asked_for() -> None:
    assert request().prompt == ""


def test_the_older_way_to_ask_for_log_probabilities_is_a_number() -> None:
    assert (request(logprobs=0).tells_logprobs, request().tells_logprobs) == (True, False)
    assert request(logprobs=3).output.top_logprobs == 3
    assert request(max_tokens=5000).options("prefix", OPT).max_new_tokens == 256


def test_best_of_and_unknown_fields_are_ignored_and_named() -> None:
    ignored = Ignored()
    validate_request({**LEAST, "best_of": 3, "suffix": "", "user": "ada", "top_logprobs": 2}, ignored)
    assert ignored.headers == {"X-Ignored": "best_of, user, top_logprobs"}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": [1, 2, 3]}, "prompt", "token ids"),
    ({"prompt": [[1, 2], [3]]}, "prompt", "token ids"),
    ({"prompt": ["a", "b"]}, "prompt", "one at a time"),
    ({"prompt": []}, "prompt", "one at a time"),
    ({"prompt": "x" * 40_000}, "prompt", "32768"),
    ({"prompt": "\ud800"}, "prompt", "surrogate"),
    ({"prompt": 5}, "prompt", "string"),
    ({"image": 5}, "image", "string"),
    ({"suffix": "."}, "suffix", "fills no gaps"),
    ({"echo": True, "logprobs": 1}, "echo", "leave out logprobs"),
    ({"logprobs": 21}, "logprobs", "20"),
    ({"logprobs": 1, "num_beams": 2}, "logprobs", "num_beams 1"),
    ({"n": 2}, "n", "temperature"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "favoured"),
]


@pytest.mark.parametrize(("fields", "param", "words"), REFUSED)
def test_other_values_are_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(InvalidField, match=words) as refused:
        request(**fields)
    assert refused.value.about == param


def test_without_a_picture_one_line_says_how_to_send_it() -> None:
    with pytest.raises(InvalidField, match="there is none: send it as") as refused:
        validate_request({"model": "blip2", "prompt": "a"}, Ignored())
    assert (refused.value.about, "\n" in refused.value.message) == ("image", False)
