"""The bodies of the Hub's tasks: where a picture, a question and parameters stand."""

from typing import Any

import pytest

from blip2_serve.api.hf.labels import Labels, labelled
from blip2_serve.api.hf.request import TaskInput, read_task
from blip2_serve.api.hf.writing import CAPTION_NAMES, QUESTION_NAMES, answer_options, caption_fields, question_fields
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.native.fields import validate_fields
from blip2_serve.errors import InvalidField
from blip2_serve.families import OPT
from blip2_serve.tasks.scored.choices import Choice


def read(body: dict[str, Any], names: Any = QUESTION_NAMES, *, strict: bool = False) -> tuple[TaskInput, str]:
    ignored = Ignored(strict=strict)
    return read_task(body, names, ignored), ignored.headers.get("X-Ignored", "")


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": {"image": "AA", "question": "what?"}},
        {"inputs": "AA", "question": "what?", "image": "AA"},
        {"image": "AA", "question": "what?"},
        {"inputs": "AA", "parameters": {"question": "what?"}},
    ],
)
def test_a_picture_and_a_question_are_found_where_clients_put_them(body: dict[str, Any]) -> None:
    assert read(body, strict=True)[0] == TaskInput("AA", {"question": "what?"})


def test_parameters_may_be_nested_and_what_is_unknown_is_named_or_refused() -> None:
    nested = {"max_new_tokens": 9, "generation_parameters": {"num_beams": 2, "eta_cutoff": None, "use_cache": True}}
    body = {"inputs": "AA", "parameters": nested, "generate_kwargs": {"num_beams": 3}, "options": {}}
    task, ignored = read(body, CAPTION_NAMES)
    assert (task.values, ignored) == ({"max_new_tokens": 9, "num_beams": 2}, "options, parameters.use_cache")
    with pytest.raises(InvalidField):
        read(body, CAPTION_NAMES, strict=True)


def test_a_limit_above_the_cap_and_a_temperature_of_zero_are_read_as_meant() -> None:
    task, _ = read({"inputs": "AA", "parameters": {"max_new_tokens": 4096, "temperature": 0.0, "do_sample": True}})
    assert task.values == {"max_new_tokens": 256, "do_sample": False}


@pytest.mark.parametrize("body", [{}, {"inputs": ""}, {"inputs": {}}, {"inputs": ["AA"]}, {"parameters": {}}])
def test_a_body_without_a_picture_says_how_to_send_one(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidField, match="inputs is missing"):
        read(body)


def test_parameters_that_are_no_object_are_refused() -> None:
    with pytest.raises(InvalidField, match="parameters are no object"):
        read({"inputs": "AA", "parameters": [3]})


def test_more_answers_are_searched_with_as_many_beams_and_capped() -> None:
    fields, num_answers = question_fields({"question": "what?", "top_k": 100})
    options = answer_options(fields, num_answers, OPT)
    assert (options.num_beams, options.num_return_sequences, options.max_new_tokens) == (16, 16, 10)
    drawn = answer_options(*question_fields({"question": "what?", "top_k": 3, "do_sample": True}), OPT)
    assert (drawn.num_beams, drawn.num_return_sequences) == (1, 3)


@pytest.mark.parametrize("values", [{}, {"question": ""}, {"question": 3}, {"question": "a" * 32_769}])
def test_a_question_is_a_text_and_errors_call_it_so(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidField, match=r"^question") as refused:
        question_fields(values)
    assert refused.value.about == "question"


def test_a_prompt_begins_the_caption() -> None:
    assert caption_fields({"prompt": "a photo of"}).txt == "a photo of"
    with pytest.raises(InvalidField, match=r"^prompt: "):
        caption_fields({"prompt": 3})


def test_labels_are_put_into_words_once_and_found_again() -> None:
    given = {"candidate_labels": "cat, dog,cat", "hypothesis_template": "a photo of {} and {}"}
    labels = validate_fields(Labels, given).by_answer()
    assert labels == {"a photo of cat and {}": "cat", "a photo of dog and {}": "dog"}
    ranked = labelled([Choice("a photo of dog and {}", 0.9, -0.1), Choice("a photo of cat and {}", 0.1, -2.0)], labels)
    assert [(each.label, each.score) for each in ranked] == [("dog", 0.9), ("cat", 0.1)]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"candidate_labels": []},
        {"candidate_labels": ["cat", " "]},
        {"candidate_labels": ["cat"] * 65},
        {"candidate_labels": "a," * 65},
        {"candidate_labels": ["a" * 20_000, "b" * 20_000]},
        {"candidate_labels": ["cat"], "hypothesis_template": "a photo"},
        {"candidate_labels": ["cat"], "hypothesis_template": "{}" * 200},
    ],
)
def test_labels_are_bounded_and_have_words(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        validate_fields(Labels, values)
