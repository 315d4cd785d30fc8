"""Given continuations are scored as transformers' forward scores them, alone and in any company."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from engine.test_parity import assert_same, cases
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blip2_serve.engine.messages import Finished, Request
from blip2_serve.errors import InvalidField
from blip2_serve.model.reference import score_continuation
from blip2_serve.options import DecodingOptions
from support.engine.driving import Driver, answer, make_engine
from support.engine.faulty import POISON, faulty_engine, poison
from support.engine.wide_models import (
    KINDS,
    Case,
    ask_transformers,
    family_of,
    image,
    instructed,
    make_model,
    pixel_values_of,
)

Continuations = tuple[tuple[int, ...], ...]


def scoring(request_id: int, image_seed: int, prompt_ids: tuple[int, ...], continuations: Continuations) -> Request:
    longest = max(len(ids) for ids in continuations)
    options = DecodingOptions(num_beams=1, max_new_tokens=longest)
    return Request(request_id, image(image_seed), prompt_ids, options, continuations=continuations)


def scorings() -> st.SearchStrategy[Request]:
    # Ids up to 94 take in every end token of the models: one in the middle ends nothing here.
    continuation = st.lists(st.integers(1, 94), min_size=1, max_size=12).map(tuple)
    return st.builds(
        scoring,
        request_id=st.just(0),
        image_seed=st.integers(0, 3),
        prompt_ids=st.lists(st.integers(4, 94), max_size=14).map(lambda ids: (2, *ids)),
        continuations=st.lists(continuation, min_size=1, max_size=7).map(tuple),
    )


def assert_scored(model: Any, request: Request, finished: Finished) -> None:
    pixels = pixel_values_of(request.image).to(model.dtype)
    assert tuple(row.ids for row in finished.rows) == request.continuations
    for row in finished.rows:
        others = family_of(model).reference_inputs(request.prompt_ids)
        tensors = {name: torch.tensor([ids]) for name, ids in others.items()}
        expected = score_continuation(model, pixels, list(request.prompt_ids), list(row.ids), **tensors)
        assert row.logprobs == pytest.approx(expected, abs=1e-5, rel=1e-6)  # unlikely tokens have large logarithms
        assert row.score == pytest.approx(sum(expected) / len(expected), abs=1e-5, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@given(
    ends=st.sampled_from(["none", "one", "many"]),
    company=st.lists(st.tuples(scorings() | cases(), st.integers(0, 4)), min_size=1, max_size=6),
)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_scores_are_those_of_transformers_in_any_company(
    kind: str, ends: Any, company: list[tuple[Request | Case, int]]
) -> None:
    model = make_model(kind, ends)
    driver = Driver(make_engine(model, max_rows=12))
    requests = []
    for request_id, (each, steps_before) in enumerate(company):
        if isinstance(each, Case):
            requests.append(each.request(request_id, model=model))
        else:
            picture = instructed(model, each.image, each.prompt_ids)
            requests.append(replace(each, request_id=request_id, image=picture))
        driver.step(steps_before)
        driver.send(requests[-1])
    driver.run()
    for request, (each, _) in zip(requests, company, strict=True):
        finished = driver.finished(request.request_id)
        if isinstance(each, Case):
            assert_same(finished.rows[0], ask_transformers(model, each))
        else:
            assert_scored(model, request, finished)


@pytest.mark.parametrize("kind", ["opt", "t5-gated-untied"])
@pytest.mark.parametrize("how", [{"num_beams": 3}, {"num_beams": 1, "do_sample": True, "temperature": 2.0, "seed": 3}])
def test_what_the_model_says_by_itself_is_scored_as_it_was_said(kind: str, how: Any) -> None:
    model = make_model(kind, "one", torch.float32)
    said = answer(model, Case(1, (2, 9, 11), DecodingOptions(max_new_tokens=20, **how)).request(0)).rows[0]
    scored = answer(model, scoring(1, 1, (2, 9, 11), (said.ids, (5, 6)))).rows[0]
    assert scored.logprobs == pytest.approx(said.logprobs, abs=1e-4)
    assert scored.score == pytest.approx(said.score, abs=1e-4)


@pytest.mark.parametrize("kind", ["opt", "t5-gated-untied"])
def test_the_longest_continuation_takes_the_longest_tail(kind: str) -> None:
    model = make_model(kind, "one")
    request = scoring(0, 0, (2, 9), (tuple(5 + place % 80 for place in range(256)), (7,)))
    assert_scored(model, request, answer(model, request))


def test_a_cancelled_scoring_frees_its_rows_and_hears_nothing() -> None:
    driver = Driver(make_engine(make_model("opt", "one", torch.float32)))
    driver.send(scoring(0, 0, (2,), ((5, 6, 7, 8, 9), (5,))), scoring(1, 1, (2,), ((6,),)))
    driver.step(2)
    driver.engine.cancel(0)
    driver.run()
    assert driver.events[0] == []
    assert driver.finished(1).rows[0].ids == (6,)


def test_a_neighbour_that_fails_changes_no_score() -> None:
    model = make_model("opt", "one")
    driver = Driver(faulty_engine(model, poison("decode")))
    request = scoring(0, 0, (2, 9), ((5, 6, 7), (8,)))
    driver.send(request, Case(1, (2, POISON), DecodingOptions(num_beams=2, max_new_tokens=9)).request(1))
    driver.run()
    assert driver.failed(1)
    assert_scored(model, request, driver.finished(0))


@pytest.mark.parametrize(
    ("continuations", "options", "more"),
    [
        (((5,), ()), {"num_beams": 1}, {}),
        (((5, 6, 7),), {"num_beams": 1, "max_new_tokens": 2}, {}),
        (((5,),), {"num_beams": 2}, {}),
        (((5,),), {"num_beams": 1, "do_sample": True}, {}),
        (((5,),), {"num_beams": 1}, {"stream": True}),
        (((5,),), {"num_beams": 1}, {"stop": ("a",)}),
    ],
    ids=["empty", "too long", "beams", "samples", "stream", "stop"],
)
def test_what_cannot_be_scored_is_refused(continuations: Continuations, options: Any, more: Any) -> None:
    with pytest.raises(InvalidField):
        Request(0, image(0), (2,), DecodingOptions(**options), continuations=continuations, **more)


def test_more_continuations_than_rows_are_refused() -> None:
    engine = make_engine(make_model("opt", "one", torch.float32), max_rows=2)
    with pytest.raises(InvalidField, match="continuations"):
        engine.submit(scoring(0, 0, (2,), ((5,), (6,), (7,))), lambda event: None)
