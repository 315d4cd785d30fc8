"""Answers equal those of transformers token for token, alone and in company."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blip2_serve.engine.messages import FinishedRow
from blip2_serve.options import DecodingOptions
from support.engine import wide_models
from support.engine.driving import Driver, answer, backend_of, make_engine, transformers_encoder
from support.engine.wide_models import KINDS, Case, Oracle, ask_transformers, make_model

MARGIN = 1e-4


def make_options(**fields: Any) -> DecodingOptions:
    """Cap the minimum at the maximum: transformers warns about more, and nobody can ask for it over HTTP."""
    fields["min_new_tokens"] = min(fields["min_new_tokens"], fields["max_new_tokens"])
    return DecodingOptions(**fields)


def options() -> st.SearchStrategy[DecodingOptions]:
    return st.builds(
        make_options,
        num_beams=st.sampled_from([1, 3, 5]),
        max_new_tokens=st.sampled_from([1, 2, 7, 12, 33]),
        min_new_tokens=st.sampled_from([0, 0, 1, 4]),
        repetition_penalty=st.sampled_from([1.0, 1.0, 1.4, 0.8]),
        no_repeat_ngram_size=st.sampled_from([0, 0, 1, 2]),
        length_penalty=st.sampled_from([1.0, 0.0, -1.0, 2.0]),
        early_stopping=st.sampled_from([False, False, True, "never"]),
        num_return_sequences=st.just(1),
    )


def cases() -> st.SearchStrategy[Case]:
    prompts = st.lists(st.integers(4, 94), max_size=14).map(lambda ids: (wide_models.BOS_ID, *ids))
    return st.builds(Case, image_seed=st.integers(0, 3), prompt_ids=prompts, options=options())


def assert_same(row: FinishedRow, oracle: Oracle, place: int = 0) -> None:
    assert row.ids == oracle.ids[place]
    assert row.logprobs == pytest.approx(oracle.logprobs[place], abs=1e-5)
    if oracle.beam_scores is not None:
        assert row.beam_score == pytest.approx(oracle.beam_scores[place], abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@given(
    ends=st.sampled_from(["none", "one", "many"]),
    company=st.lists(st.tuples(cases(), st.integers(0, 5)), min_size=1, max_size=6),
)
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_answers_are_those_of_transformers_in_any_company(
    kind: str, ends: Any, company: list[tuple[Case, int]]
) -> None:
    model = make_model(kind, ends)
    driver = Driver(make_engine(model, max_rows=12))
    for request_id, (case, steps_before) in enumerate(company):
        driver.step(steps_before)
        driver.send(case.request(request_id, model=model))
    driver.run()
    for request_id, (case, _) in enumerate(company):
        assert_same(driver.finished(request_id).rows[0], ask_transformers(model, case))


@pytest.mark.parametrize("kind", KINDS)
@given(
    fair_rows=st.integers(1, 6),
    company=st.lists(st.tuples(cases(), st.integers(0, 5), st.sampled_from("aaab")), min_size=4, max_size=9),
)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_answers_stay_the_same_when_rows_pause_for_another_client(
    kind: str, fair_rows: int, company: list[tuple[Case, int, str]]
) -> None:
    model = make_model(kind, "many")
    driver = Driver(make_engine(model, max_rows=64, fair_rows=fair_rows))
    for request_id, (case, steps_before, client) in enumerate(company):
        driver.step(steps_before)
        driver.send(case.request(request_id, model=model, client=client))
    driver.run()
    for request_id, (case, _, _) in enumerate(company):
        assert_same(driver.finished(request_id).rows[0], ask_transformers(model, case))


@pytest.mark.parametrize("kind", KINDS)
def test_several_beams_are_returned_best_first(kind: str) -> None:
    model = make_model(kind, "many")
    case = Case(0, (2, 9, 11), DecodingOptions(num_beams=5, num_return_sequences=4, max_new_tokens=9))
    driver = Driver(make_engine(model))
    driver.send(case.request(1, model=model))
    driver.run()
    oracle = ask_transformers(model, case)
    for place, row in enumerate(driver.finished(1).rows):
        assert_same(row, oracle, place)


@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_beams_and_the_longest_tail_are_exact_too(kind: str) -> None:
    model = make_model(kind, "none")
    case = Case(1, (2, 30), DecodingOptions(num_beams=16, max_new_tokens=40))
    driver = Driver(make_engine(model))
    driver.send(case.request(1, model=model))
    driver.run()
    assert_same(driver.finished(1).rows[0], ask_transformers(model, case))


@pytest.mark.parametrize("kind", ["opt", "t5-gated-untied"])
def test_in_float32_only_near_ties_may_differ(kind: str) -> None:
    model = make_model(kind, "one", torch.float32)
    batch = [
        Case(seed % 4, (2, *range(5, 5 + seed % 9)), DecodingOptions(num_beams=(1, 3, 5)[seed % 3], max_new_tokens=20))
        for seed in range(30)
    ]
    # These models multiply a rounding error of the image tokens by ten and more: both sides are given the same.
    driver = Driver(make_engine(model, max_rows=64, encode_images=transformers_encoder(model)))
    for request_id, case in enumerate(batch):
        driver.send(case.request(request_id, model=model))
        driver.step()
    driver.run()
    num_different = 0
    for request_id, case in enumerate(batch):
        row, oracle = driver.finished(request_id).rows[0], ask_transformers(model, case)
        if row.ids != oracle.ids[0]:
            num_different += 1
            assert margin(model, case, row, oracle) < MARGIN
        else:
            assert row.logprobs == pytest.approx(oracle.logprobs[0], abs=MARGIN)
    assert num_different <= 1


def margin(model: Any, case: Case, row: FinishedRow, oracle: Oracle) -> float:
    """Return by how much transformers' own answer beats ours, by its own measure."""
    if oracle.beam_scores is not None and row.beam_score is not None:
        return abs(oracle.beam_scores[0] - row.beam_score)
    place = next(n for n, (ours, theirs) in enumerate(zip(row.ids, oracle.ids[0], strict=False)) if ours != theirs)
    return abs(oracle.logprobs[0][place] - row.logprobs[place])


def test_texts_end_at_different_times_so_that_the_comparison_means_something() -> None:
    lengths = set()
    for kind in KINDS:
        for ends in ("one", "many"):
            case = Case(0, (2, 7), DecodingOptions(num_beams=3, max_new_tokens=33))
            lengths.add(len(ask_transformers(make_model(kind, ends), case).ids[0]))
    assert len(lengths) >= 4, lengths


@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_are_wide_enough_to_say_different_things(kind: str) -> None:
    options = DecodingOptions(num_beams=1, max_new_tokens=33)
    answers = [ask_transformers(make_model(kind, "none"), Case(seed, (2, 7), options)).ids[0] for seed in range(3)]
    assert len(set(answers)) == 3
    assert max(len(set(answer)) for answer in answers) > 8


@pytest.mark.parametrize("kind", KINDS)
def test_fused_weights_are_shared_with_the_model_and_not_copied(kind: str) -> None:
    model = make_model(kind, "none")
    backend_of(model)
    if kind.startswith("opt"):
        attention = model.language_model.model.decoder.layers[0].self_attn
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    else:
        attention = model.language_model.decoder.block[0].layer[0].SelfAttention
        parts = [attention.q, attention.k, attention.v]
    assert len({part.weight.untyped_storage().data_ptr() for part in parts}) == 1


@pytest.mark.parametrize("kind", ["opt", "t5-gated-untied"])
def test_bfloat16_runs_and_company_changes_few_captions(kind: str) -> None:
    """Larger products round differently in bfloat16: counted here, but not promised."""
    model = make_model(kind, "one", torch.bfloat16)
    batch = [Case(n % 4, (2, 5 + n), DecodingOptions(num_beams=(1, 5)[n % 2], max_new_tokens=12)) for n in range(40)]
    driver = Driver(make_engine(model, max_rows=64))
    for request_id, case in enumerate(batch):
        driver.send(case.request(request_id, model=model))
        driver.step()
    driver.run()
    together = [driver.finished(request_id).rows[0].ids for request_id in range(len(batch))]
    alone = [answer(model, case.request(0, model=model)).rows[0].ids for case in batch]
    assert sum(ours != theirs for ours, theirs in zip(together, alone, strict=True)) <= len(batch) // 4


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_text_that_has_used_up_every_token_ends_as_it_does_in_transformers(num_beams: int) -> None:
    model = make_model("opt", "none")
    options = DecodingOptions(num_beams=num_beams, no_repeat_ngram_size=1, max_new_tokens=120)
    case = Case(0, (2, 7), options)
    assert answer(model, case.request(1, model=model)).rows[0].ids == ask_transformers(model, case).ids[0]
