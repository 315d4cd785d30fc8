"""The likeliest tokens beside those that were chosen, compared with transformers' `output_logits`."""

from typing import Any

import pytest
import torch

from blip2_serve.engine.messages import LikelyToken, TokenEvent
from blip2_serve.options import DecodingOptions
from support.engine.driving import Driver, answer, make_engine
from support.engine.wide_models import IMAGE_ID, NUM_QUERIES, Case, make_model, pixel_values_of
from support.engine.wide_models import image as image_of

GREEDY = DecodingOptions(num_beams=1, max_new_tokens=12)
PENALISED = DecodingOptions(num_beams=1, max_new_tokens=12, repetition_penalty=1.7)
SAMPLES = DecodingOptions(
    num_beams=1, max_new_tokens=6, do_sample=True, seed=5, temperature=3.0, num_return_sequences=3
)


def transformers_logprobs(model: Any, case: Case) -> torch.Tensor:
    """(new tokens, vocab) float64: log-softmax of the raw logits of transformers' greedy search."""
    input_ids = torch.tensor([(IMAGE_ID,) * NUM_QUERIES + case.prompt_ids])
    out = model.generate(
        pixel_values=pixel_values_of(image_of(case.image_seed)).to(model.dtype),
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        do_sample=False,
        max_new_tokens=case.options.max_new_tokens,
        repetition_penalty=case.options.repetition_penalty,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return torch.cat(out.logits).log_softmax(-1)


def assert_likeliest(told: tuple[LikelyToken, ...], logprobs: torch.Tensor) -> None:
    best = logprobs.topk(len(told))
    assert [likely.token_id for likely in told] == best.indices.tolist()
    assert [likely.logprob for likely in told] == pytest.approx(best.values.tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", ["opt", "t5-gated-untied"])
@pytest.mark.parametrize("options", [GREEDY, PENALISED], ids=["greedy", "penalised"])
def test_they_are_those_of_transformers_raw_logits(kind: str, options: DecodingOptions) -> None:
    model = make_model(kind, "none")
    case = Case(0, (2, 9, 30), options)
    row = answer(model, case.request(0, top_logprobs=20)).rows[0]
    expected = transformers_logprobs(model, case)
    assert len(row.likely) == len(row.ids) == len(expected)
    for told, logprobs in zip(row.likely, expected, strict=True):
        assert len(told) == 20
        assert_likeliest(told, logprobs)


def test_every_request_of_a_batch_gets_as_many_as_it_asked_for() -> None:
    model = make_model("opt", "none")
    counts = [0, 3, 1, 20]
    driver = Driver(make_engine(model))
    cases = [Case(seed, (2, 9, 30), GREEDY) for seed in range(len(counts))]
    driver.send(*(case.request(n, top_logprobs=counts[n]) for n, case in enumerate(cases)))
    driver.run()
    for n, case in enumerate(cases):
        row = driver.finished(n).rows[0]
        alone = answer(model, case.request(0, top_logprobs=counts[n])).rows[0]
        assert row.ids == alone.ids
        assert {len(told) for told in row.likely} == ({counts[n]} if counts[n] else set())
        for told, logprobs in zip(row.likely, transformers_logprobs(model, case), strict=False):
            assert_likeliest(told, logprobs)


def test_a_stream_tells_them_with_each_token_of_each_row() -> None:
    model = make_model("opt", "none")
    driver = Driver(make_engine(model))
    driver.send(Case(0, (2, 9), SAMPLES).request(1, stream=True, top_logprobs=4))
    driver.run()
    rows = driver.finished(1).rows
    assert len({row.ids for row in rows}) == 3
    for place, finished_row in enumerate(rows):
        events = [event for event in driver.events[1] if isinstance(event, TokenEvent) and event.row == place]
        assert tuple(event.likely for event in events) == finished_row.likely
        assert {len(event.likely) for event in events} == {4}
