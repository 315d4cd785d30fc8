"""Answers of the tasks: the best first, with the probability of the whole answer."""

import math

from blip2_serve.api.hf.writing import answers
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.completion import CompletedRequest, Completion

SEARCH, DRAW = DecodingOptions(num_beams=3), DecodingOptions(num_beams=1, do_sample=True)


def told(options: DecodingOptions, *completions: tuple[str, float]) -> list[tuple[str, float]]:
    rows = tuple(Completion(text, (), "stop", logprob) for text, logprob in completions)
    done = CompletedRequest(rows, 1, 1, "id", None)
    return [(each.answer, each.score) for each in answers(done, options)]


def test_a_search_keeps_its_own_order() -> None:
    found = told(SEARCH, ("yellow diamond on a blue background", -0.5), ("yellow diamond", -0.2))
    assert found == [("yellow diamond on a blue background", math.exp(-0.5)), ("yellow diamond", math.exp(-0.2))]


def test_drawn_answers_are_sorted_and_told_once() -> None:
    assert [text for text, _ in told(DRAW, ("a", -2.0), ("b", -1.0), ("a", -2.0))] == ["b", "a"]


def test_an_empty_answer_is_told_where_there_is_no_other() -> None:
    assert [text for text, _ in told(SEARCH, ("", -0.1), ("a", -2.0))] == ["a"]
    assert [text for text, _ in told(SEARCH, ("", -0.1))] == [""]
