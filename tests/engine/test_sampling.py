"""Sampling: the same seed, the same text; frequencies and options as transformers has them."""

from typing import Any

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from blip2_serve.engine.cache.rows import shape_for
from blip2_serve.engine.decoding.picking import warp
from blip2_serve.engine.sequence import Prefix, SequenceState
from blip2_serve.options import DecodingOptions
from support.engine.driving import Driver, answer, make_engine
from support.engine.wide_models import Case, make_model, pixel_values_of
from support.engine.wide_models import image as image_of


def sampling(**fields: Any) -> DecodingOptions:
    return DecodingOptions(**({"do_sample": True, "num_beams": 1, "max_new_tokens": 12} | fields))


def transformers_warpers(options: DecodingOptions) -> LogitsProcessorList:
    """Build transformers' warpers, in the order of `_get_logits_processor`."""
    processors = LogitsProcessorList()
    if options.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
    if options.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(options.temperature))
    if options.top_k:
        processors.append(TopKLogitsWarper(options.top_k))
    if options.top_p < 1.0:
        processors.append(TopPLogitsWarper(options.top_p))
    if options.min_p:
        processors.append(MinPLogitsWarper(options.min_p))
    return processors


WARPS = [
    {"temperature": 0.7, "top_k": 0, "top_p": 1.0},
    {"temperature": 1.0, "top_k": 5, "top_p": 1.0},
    {"temperature": 1.3, "top_k": 0, "top_p": 0.6},
    {"temperature": 1.0, "top_k": 50, "top_p": 0.9},
    {"temperature": 0.5, "top_k": 500, "top_p": 0.01},
    {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.2},
    {"temperature": 2.0, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 1.0},
]


def test_warping_many_rows_at_once_is_what_transformers_does_to_each() -> None:
    # bfloat16 makes ties, which top-k must keep.
    scores = (torch.randn(len(WARPS), 96, generator=torch.Generator().manual_seed(0)) * 3).bfloat16().float()
    rows = [sequence_with(sampling(**fields)) for fields in WARPS]
    expected = torch.cat([transformers_warpers(row.options)(None, scores[[n]]) for n, row in enumerate(rows)])
    warped = warp(scores, rows)
    assert torch.equal(warped.isinf(), expected.isinf())
    torch.testing.assert_close(warped.softmax(-1), expected.softmax(-1), rtol=2e-6, atol=0)


@pytest.mark.parametrize("temperature", [1e-3, 1e-20, 1e-38, 1e-45, 1e-300])
@pytest.mark.parametrize("fields", [{}, {"top_k": 0, "top_p": 1.0}, {"repetition_penalty": 1.5}])
def test_sampling_at_a_tiny_temperature_is_greedy(temperature: float, fields: dict[str, Any]) -> None:
    model = make_model("opt", "none", torch.float32)
    case = Case(0, (2, 9), sampling(temperature=temperature, seed=1, **fields))
    greedy = Case(0, (2, 9), sampling(do_sample=False, **fields))
    drawn = answer(model, case.request(0)).rows[0].ids
    assert drawn == answer(model, greedy.request(0)).rows[0].ids


def sequence_with(options: DecodingOptions) -> SequenceState:
    request = Case(0, (2,), options).request(1)
    shape = shape_for(5, request.num_rows, options.max_new_tokens, beams=False)
    return SequenceState(request, Prefix(5, 2, (2,)), shape, arrived=0.0)


@pytest.mark.parametrize("kind", ["opt", "t5-gated-untied"])
@pytest.mark.parametrize("fields", [*WARPS[:4], WARPS[6], {"repetition_penalty": 1.8, "temperature": 2.0, "top_k": 20}])
def test_sampled_frequencies_agree_with_transformers_processors(kind: str, fields: dict[str, Any]) -> None:
    """Chi-square over 4096 first tokens, with fixed seeds."""
    model = make_model(kind, "none", torch.float32)
    driver = Driver(make_engine(model, max_rows=1024))
    num_requests, num_rows = 256, 16
    case = Case(0, (2, 9, 30), DecodingOptions())
    for seed in range(num_requests):
        options = sampling(seed=seed, num_return_sequences=num_rows, max_new_tokens=1, **fields)
        driver.send(Case(case.image_seed, case.prompt_ids, options).request(seed))
    driver.run()
    drawn = [row.ids[0] for n in range(num_requests) for row in driver.finished(n).rows]
    expected = first_probabilities(model, case, sampling(**fields)) * len(drawn)
    counts = torch.bincount(torch.tensor(drawn), minlength=len(expected)).double()
    assert counts[expected == 0].sum() == 0
    assert chi_square_is_plausible(counts, expected)


def first_probabilities(model: Any, case: Case, options: DecodingOptions) -> torch.Tensor:
    """(vocab,) float64: the distribution of the first new token, by transformers' model and processors."""
    input_ids = torch.tensor([(95,) * 4 + case.prompt_ids])
    out = model.generate(
        pixel_values=pixel_values_of(image_of(case.image_seed)),
        input_ids=input_ids,
        do_sample=False,
        max_new_tokens=1,
        return_dict_in_generate=True,
        output_logits=True,
    )
    seen = torch.tensor([[1]]) if model.config.text_config.is_encoder_decoder else input_ids
    return transformers_warpers(options)(seen, out.logits[0].float())[0].softmax(-1).double()


def chi_square_is_plausible(counts: torch.Tensor, expected: torch.Tensor) -> bool:
    """Bins that expect fewer than 5 are merged; five standard deviations are allowed."""
    large = expected >= 5
    counts = torch.cat([counts[large], counts[~large].sum()[None]])
    expected = torch.cat([expected[large], expected[~large].sum()[None]])
    counts, expected = counts[expected > 0], expected[expected > 0]
    degrees = len(counts) - 1
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    return statistic < degrees + 5 * max(1.0, (2 * degrees) ** 0.5)


@pytest.mark.parametrize("kind", ["opt", "t5-gated-untied"])
def test_the_same_seed_gives_the_same_samples_whatever_else_runs(kind: str) -> None:
    model = make_model(kind, "one", torch.float32)
    case = Case(0, (2, 9), sampling(seed=7, num_return_sequences=3, temperature=1.5))
    alone = answer(model, case.request(0)).rows
    driver = Driver(make_engine(model, max_rows=40))
    for request_id in range(1, 9):
        driver.send(Case(request_id % 4, (2, 5), sampling(seed=request_id)).request(request_id))
        driver.step()
    driver.send(case.request(0), Case(0, (2, 9), DecodingOptions(num_beams=3)).request(99))
    driver.run()
    assert [row.ids for row in driver.finished(0).rows] == [row.ids for row in alone]


def test_other_seeds_and_no_seed_give_other_samples() -> None:
    model = make_model("opt", "none", torch.float32)
    options = [sampling(temperature=5.0, top_k=0, top_p=1.0, seed=seed) for seed in (1, 2, None, None)]
    answers = {answer(model, Case(0, (2, 9), each).request(0), max_rows=4).rows[0].ids for each in options}
    assert len(answers) == 4


def test_the_rows_of_one_request_are_different_samples() -> None:
    model = make_model("opt", "none", torch.float32)
    case = Case(0, (2, 9), sampling(seed=3, num_return_sequences=4, temperature=1.5))
    assert len({row.ids for row in answer(model, case.request(0)).rows}) == 4


def test_log_probabilities_are_those_of_the_raw_logits() -> None:
    """A temperature changes what is drawn, not what the model thinks of it."""
    model = make_model("opt", "none", torch.float32)
    case = Case(0, (2, 9), sampling(seed=3, temperature=0.3, top_k=3, max_new_tokens=1))
    row = answer(model, case.request(0)).rows[0]
    expected = first_probabilities(model, case, sampling(top_k=0, top_p=1.0)).log()
    assert row.logprobs[0] == pytest.approx(expected[row.ids[0]].item(), abs=1e-4)
    assert row.score == row.logprobs[0]
