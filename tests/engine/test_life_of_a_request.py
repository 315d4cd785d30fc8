"""The life of a request from `submit` to its last event."""

import dataclasses
import time
from typing import Any

import pytest
import torch

from blip2_serve.engine.messages import Finished, Request, TokenEvent
from blip2_serve.engine.sequence import SequenceState, Stage
from blip2_serve.engine.vision.image_cache import ImageCache
from blip2_serve.errors import Busy, DeadlineExceeded, InvalidField, PromptTooLong
from blip2_serve.options import DecodingOptions
from support.engine import wide_models
from support.engine.driving import Driver, answer, decode, encoder_of, make_engine
from support.engine.wide_models import Case, make_model

GREEDY = DecodingOptions(num_beams=1, max_new_tokens=20)
BEAMS = DecodingOptions(num_beams=5, max_new_tokens=20)


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model("opt", "none", torch.float32)


def greedy(request_id: int, image_seed: int = 0, **more: Any) -> Request:
    return Case(image_seed, (2, 9), GREEDY).request(request_id, **more)


def test_rows_join_and_leave_at_every_step(model: Any) -> None:
    driver = Driver(make_engine(model))
    driver.send(Case(0, (2,), DecodingOptions(num_beams=1, max_new_tokens=3)).request(1))
    driver.step(2)
    driver.send(Case(0, (2,), DecodingOptions(num_beams=3, max_new_tokens=9)).request(2))
    driver.step()
    assert isinstance(driver.events[1][-1], Finished)
    assert driver.engine.stats().num_rows == 3
    driver.run()


def test_a_cancelled_request_frees_its_rows_within_a_step_and_hears_nothing_more(model: Any) -> None:
    driver = Driver(make_engine(model))
    driver.send(Case(0, (2,), BEAMS).request(1), greedy(2))
    driver.step(3)
    assert driver.engine.stats().num_rows == 6
    driver.engine.cancel(1)
    driver.step()
    assert driver.engine.stats().num_rows == 1
    driver.run()
    assert driver.events[1] == []
    assert driver.finished(2)


@pytest.mark.parametrize("max_rows", [1, 8])
def test_a_request_may_be_cancelled_before_it_runs(model: Any, max_rows: int) -> None:
    driver = Driver(make_engine(model, max_rows=max_rows, max_images_per_step=1))
    driver.send(*[greedy(request_id, image_seed=request_id) for request_id in range(4)])
    driver.engine.cancel(3)
    driver.step()
    driver.engine.cancel(1)
    driver.run()
    assert (driver.events[1], driver.events[3]) == ([], [])
    assert driver.finished(0)
    assert driver.finished(2)


@pytest.mark.parametrize(
    ("place", "stage"), [(0, Stage.RUNNING), (1, Stage.QUEUED), (3, Stage.WAITING_FOR_IMAGE), (4, Stage.ARRIVED)]
)
def test_a_request_leaves_nothing_behind_whatever_stage_it_leaves_from(model: Any, place: int, stage: Stage) -> None:
    driver = Driver(make_engine(model, max_rows=1, max_images_per_step=2))
    driver.send(*[greedy(request_id, image_seed=request_id) for request_id in range(4)])
    driver.step()
    driver.send(greedy(4, image_seed=4))
    loop = driver.engine._loop
    arrived = [each for each in loop.inbox if isinstance(each, SequenceState)]
    sequence = [*loop._sequences.values(), *arrived][place]
    assert sequence.stage is stage
    assert (sequence.image_tokens is not None, sequence.rows is not None) == (
        stage is Stage.QUEUED,
        stage is Stage.RUNNING,
    )
    driver.engine.cancel(place)
    driver.step()
    assert (sequence.stage, sequence.image_tokens, sequence.rows) == (Stage.ENDED, None, None)
    assert driver.engine.stats().num_waiting + driver.engine.stats().num_running == 4
    driver.run()
    assert driver.events[place] == []
    assert all(driver.finished(request_id) for request_id in range(5) if request_id != place)


def test_cancelling_what_is_not_there_is_harmless(model: Any) -> None:
    driver = Driver(make_engine(model))
    driver.engine.cancel(5)
    driver.send(greedy(1))
    driver.run()
    driver.engine.cancel(1)
    driver.run()


@pytest.mark.parametrize("steps_before", [0, 4])
def test_a_deadline_ends_a_request_with_its_own_error(model: Any, steps_before: int) -> None:
    driver = Driver(make_engine(model))
    driver.send(greedy(1, deadline=time.monotonic() + 60), greedy(2, deadline=time.monotonic() + 0.05))
    driver.step(steps_before)
    time.sleep(0.06)
    driver.step()
    assert isinstance(driver.failed(2).error, DeadlineExceeded)
    driver.run()
    assert driver.finished(1)


def test_beyond_the_queue_the_engine_is_busy(model: Any) -> None:
    driver = Driver(make_engine(model, max_rows=1, max_queue=3))
    driver.send(*[greedy(request_id) for request_id in range(3)])
    with pytest.raises(Busy) as refusal:
        driver.send(greedy(3))
    assert refusal.value.retry_after_s > 0
    driver.step()
    driver.send(greedy(4))
    driver.run()


def test_what_never_fits_is_refused_at_once(model: Any) -> None:
    driver = Driver(make_engine(model, max_rows=4))
    with pytest.raises(PromptTooLong):
        driver.send(Case(0, (2,) * 600, GREEDY).request(1))
    with pytest.raises(PromptTooLong):
        driver.send(Case(0, (2,) * 310, GREEDY).request(1))
    with pytest.raises(InvalidField):
        driver.send(Case(0, (2,), BEAMS).request(1))
    assert driver.engine.stats().num_waiting == 0


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (DecodingOptions(num_beams=2, do_sample=True), {}),
        (BEAMS, {"stop": ("a",)}),
        (BEAMS, {"top_logprobs": 1}),
        (BEAMS, {"stream": True}),
        (DecodingOptions(num_beams=1, num_return_sequences=2), {}),
    ],
)
def test_combinations_that_nobody_decodes_are_refused(options: DecodingOptions, more: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        Case(0, (2,), options).request(1, **more)


def test_a_stream_adds_up_to_the_answer(model: Any) -> None:
    driver = Driver(make_engine(model))
    driver.send(greedy(1, stream=True))
    driver.run()
    *events, last = driver.events[1]
    assert all(isinstance(event, TokenEvent) for event in events)
    assert tuple(event.token_id for event in events) == last.rows[0].ids
    assert tuple(event.logprob for event in events) == last.rows[0].logprobs
    assert "".join(event.text for event in events) == last.rows[0].text == decode(list(last.rows[0].ids))


@pytest.mark.parametrize("more", [{"stream": True}, {"stop": ("never",)}, {"stream": True, "stop": ("never",)}])
def test_a_text_begins_with_what_the_caller_gave(model: Any, more: dict[str, Any]) -> None:
    driver = Driver(make_engine(model))
    driver.send(greedy(1, answer_begins=" a photo of", **more))
    driver.run()
    *events, last = driver.events[1]
    assert last.rows[0].text == (" a photo of" + decode(list(last.rows[0].ids))).strip()
    assert "".join(event.text for event in events) == (last.rows[0].text if "stream" in more else "")


def test_the_first_token_is_told_before_the_last_is_made(model: Any) -> None:
    driver = Driver(make_engine(model))
    driver.send(greedy(1, stream=True))
    driver.step()
    assert len(driver.events[1]) == 1


def test_a_stop_string_ends_the_row_and_is_not_part_of_the_text(model: Any) -> None:
    whole = answer(model, greedy(1, stop=("never",))).rows[0]
    assert whole.text is not None
    stop = whole.text[5:8]
    cut = answer(model, greedy(1, stop=(stop,))).rows[0]
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert len(cut.ids) < len(whole.ids)
    assert cut.ids == whole.ids[: len(cut.ids)]


def test_equal_images_in_flight_are_encoded_once_and_later_not_at_all(model: Any) -> None:
    driver = Driver(make_engine(model))
    driver.send(*[greedy(request_id, image_seed=request_id % 2) for request_id in range(6)])
    driver.run()
    driver.send(greedy(7, image_seed=1))
    driver.run()
    stats = driver.engine.stats()
    assert stats.num_images_encoded == 2
    assert stats.image_cache_hits == 1


def test_one_micro_batch_of_images_is_encoded_between_two_decode_steps(model: Any) -> None:
    sizes: list[int] = []

    def counting(images: list[bytes], instructions: Any) -> torch.Tensor:
        sizes.append(len(images))
        return encoder_of(model)(images)

    driver = Driver(make_engine(model, encode_images=counting, max_images_per_step=2))
    driver.send(*[greedy(request_id, image_seed=request_id) for request_id in range(5)])
    for step in range(1, 4):
        driver.step()
        assert len(sizes) == step
        assert driver.engine.stats().num_steps == step
    assert sizes == [2, 2, 1]


def test_the_encoder_is_given_each_picture_with_its_instruction(model: Any) -> None:
    given: list[tuple[bytes, tuple[int, ...]]] = []

    def noting(images: list[bytes], instructions: list[tuple[int, ...]]) -> torch.Tensor:
        given.extend(zip(images, instructions, strict=True))
        return encoder_of(model)(images, instructions)

    driver = Driver(make_engine(model, encode_images=noting))
    pictures = [dataclasses.replace(wide_models.image(seed), instruction_ids=(7, seed)) for seed in range(2)]
    driver.send(*[dataclasses.replace(greedy(seed), image=picture) for seed, picture in enumerate(pictures)])
    driver.send(greedy(2, image_seed=2))
    driver.run()
    assert given == [(pictures[0].pixels, (7, 0)), (pictures[1].pixels, (7, 1)), (wide_models.image(2).pixels, ())]


def test_an_answer_does_not_depend_on_whether_its_image_was_cached(model: Any) -> None:
    cache = ImageCache(1 << 20)
    first = answer(model, greedy(1), image_cache=cache).rows
    assert answer(model, greedy(2), image_cache=cache).rows == first
    assert cache.hits == 1


def test_more_requests_than_rows_are_all_answered(model: Any) -> None:
    driver = Driver(make_engine(model, max_rows=16))
    cases = [Case(n % 3, (2, *range(5, 6 + n % 20)), (GREEDY, BEAMS)[n % 2]) for n in range(40)]
    driver.send(*[case.request(request_id) for request_id, case in enumerate(cases)])
    driver.run()
    for request_id, case in enumerate(cases):
        assert driver.finished(request_id).rows[0].ids == answer(model, case.request(0)).rows[0].ids


def test_pixels_are_normalised_bit_by_bit_as_the_image_processor_does_it(model: Any) -> None:
    picture = wide_models.image(3)
    assert torch.equal(encoder_of(model).tower.normalise([picture.pixels]), wide_models.pixel_values_of(picture))


def test_pixels_of_another_size_fail_alone(model: Any) -> None:
    driver = Driver(make_engine(model))
    wrong = Request(1, wide_models.ImageInput(b"wrong", b"123"), (2, 9), GREEDY)
    driver.send(wrong, greedy(2))
    driver.run()
    assert driver.failed(1)
    assert driver.finished(2)
