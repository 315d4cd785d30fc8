"""Images encoded in threads beside the loop: only the requests that need them wait, and answers are the same."""

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from blip2_serve.engine.engine import Engine
from blip2_serve.engine.messages import Event, Failed, KnownImage
from blip2_serve.errors import EngineDead, EngineFailure
from blip2_serve.options import DecodingOptions
from support.engine.driving import Driver, answer, encoder_of, make_engine
from support.engine.wide_models import Case, make_model

OPTIONS = DecodingOptions(num_beams=1, max_new_tokens=12)
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model("opt", "none", torch.float32)


class HeldEncoder:
    """Holds each call of the model's own encoder until `let_go`; counts the images."""

    def __init__(self, model: Any) -> None:
        self._encode = encoder_of(model)
        self._may_go = threading.Semaphore(0)
        self.num_images = 0
        self.began = threading.Event()

    def __call__(self, images: list[bytes], instructions: Any) -> torch.Tensor:
        self.began.set()
        assert self._may_go.acquire(timeout=PATIENCE_S)
        self.num_images += len(images)
        return self._encode(images)

    def let_go(self, times: int = 1) -> None:
        self.began.clear()
        self._may_go.release(times)


def step_until(driver: Driver, condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        driver.step()


def has_ended(driver: Driver, *request_ids: int) -> Callable[[], bool]:
    return lambda: all(driver.events[request_id] for request_id in request_ids)


def test_answers_are_those_of_images_encoded_by_the_loop_itself(model: Any) -> None:
    cases = [Case(n % 5, (2, 5 + n), OPTIONS) for n in range(12)]
    driver = Driver(make_engine(model, encoder_threads=2, max_images_per_step=2))
    driver.send(*[case.request(request_id) for request_id, case in enumerate(cases)])
    step_until(driver, has_ended(driver, *range(12)))
    alone = [answer(model, case.request(0)).rows[0].ids for case in cases]
    assert [driver.finished(request_id).rows[0].ids for request_id in range(12)] == alone


def test_running_rows_decode_on_while_an_image_is_encoded(model: Any) -> None:
    encoder = HeldEncoder(model)
    driver = Driver(make_engine(model, encode_images=encoder, encoder_threads=1))
    encoder.let_go()
    driver.send(Case(0, (2, 5), OPTIONS).request(0))
    step_until(driver, lambda: driver.engine.stats().num_running == 1)
    driver.send(Case(1, (2, 5), OPTIONS).request(1))
    step_until(driver, has_ended(driver, 0))
    assert not driver.events[1]
    encoder.let_go()
    step_until(driver, has_ended(driver, 1))
    assert driver.finished(1).rows[0].ids == answer(model, Case(1, (2, 5), OPTIONS).request(1)).rows[0].ids


def test_an_image_asked_for_while_it_is_encoded_is_not_encoded_again(model: Any) -> None:
    encoder = HeldEncoder(model)
    driver = Driver(make_engine(model, encode_images=encoder, encoder_threads=1))
    driver.send(Case(0, (2, 5), OPTIONS).request(0))
    step_until(driver, encoder.began.is_set)
    driver.send(Case(0, (2, 6), OPTIONS).request(1))
    driver.step()
    encoder.let_go(2)
    step_until(driver, has_ended(driver, 0, 1))
    assert encoder.num_images == 1


def test_an_image_that_is_being_encoded_can_be_asked_for_by_its_id(model: Any) -> None:
    encoder = HeldEncoder(model)
    driver = Driver(make_engine(model, encode_images=encoder, encoder_threads=1))
    sent = Case(0, (2, 5), OPTIONS).request(0)
    driver.send(sent)
    step_until(driver, encoder.began.is_set)
    driver.send(dataclasses.replace(sent, request_id=1, image=KnownImage(sent.image.key)))
    driver.engine.cancel(0)
    driver.step()
    encoder.let_go()
    step_until(driver, has_ended(driver, 1))
    assert driver.finished(1)


def test_the_image_of_a_caller_who_left_while_it_was_encoded_is_kept_for_the_next(model: Any) -> None:
    encoder = HeldEncoder(model)
    driver = Driver(make_engine(model, encode_images=encoder, encoder_threads=1))
    driver.send(Case(0, (2, 5), OPTIONS).request(0))
    step_until(driver, encoder.began.is_set)
    driver.engine.cancel(0)
    driver.step()
    encoder.let_go(2)
    step_until(driver, lambda: driver.engine.stats().num_images_encoded == 1)
    driver.send(Case(0, (2, 5), OPTIONS).request(1))
    step_until(driver, has_ended(driver, 1))
    assert encoder.num_images == 1
    assert driver.events[0] == []


def test_an_image_that_cannot_be_encoded_fails_alone(model: Any) -> None:
    black = bytes(len(Case(1, (2, 5), OPTIONS).request(0).image.pixels))

    def encode(images: list[bytes], instructions: Any) -> torch.Tensor:
        if black in images:
            raise ValueError("black")
        return encoder_of(model)(images)

    driver = Driver(make_engine(model, encode_images=encode, encoder_threads=1))
    requests = [Case(n, (2, 5), OPTIONS).request(n) for n in range(3)]
    object.__setattr__(requests[1].image, "pixels", black)
    driver.send(*requests)
    step_until(driver, has_ended(driver, 0, 1, 2))
    assert isinstance(driver.failed(1).error, EngineFailure)
    assert driver.finished(0)
    assert driver.finished(2)


def ask(engine: Engine, case: Case, request_id: int = 0) -> Event:
    events: list[Event] = []
    answered = threading.Event()

    def sink(event: Event) -> None:
        events.append(event)
        answered.set()

    engine.submit(case.request(request_id), sink)
    assert answered.wait(PATIENCE_S)
    return events[0]


def test_the_sleeping_loop_wakes_when_an_image_is_ready(model: Any, started: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("blip2_serve.engine.engine.IDLE_S", 10 * PATIENCE_S)
    engine = started(make_engine(model, encoder_threads=1))
    for number in range(3):
        assert not isinstance(ask(engine, Case(number, (2, 5), OPTIONS), number), Failed)


def test_an_encoder_that_hangs_is_found_by_the_watchdog(model: Any, started: Any) -> None:
    encoder = HeldEncoder(model)
    engine = started(make_engine(model, encode_images=encoder, encoder_threads=1, call_timeout_s=0.3))
    event = ask(engine, Case(0, (2, 5), OPTIONS))
    assert isinstance(event, Failed)
    assert isinstance(event.error, EngineDead)
    encoder.let_go(9)


def test_stopping_waits_for_an_image_that_is_being_encoded(model: Any) -> None:
    encoder = HeldEncoder(model)
    engine = make_engine(model, encode_images=encoder, encoder_threads=1)
    engine.start()
    engine.submit(Case(0, (2, 5), OPTIONS).request(0), lambda event: None)
    assert encoder.began.wait(PATIENCE_S)
    threading.Timer(0.3, encoder.let_go).start()
    engine.stop()
    assert encoder.num_images == 1
    assert not any(thread.is_alive() for thread in engine._encoders._threads)


def test_stopping_leaves_an_encoder_that_hangs_behind(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    encoder = HeldEncoder(model)
    engine = make_engine(model, encode_images=encoder, encoder_threads=1)
    engine.start()
    engine.submit(Case(0, (2, 5), OPTIONS).request(0), lambda event: None)
    assert encoder.began.wait(PATIENCE_S)
    began = time.monotonic()
    engine.stop(0.2)
    assert time.monotonic() - began < PATIENCE_S / 2
    assert "left behind" in caplog.text
    encoder.let_go()


def test_an_idle_encoder_is_not_taken_for_one_that_hangs(model: Any, started: Any) -> None:
    engine = started(make_engine(model, encoder_threads=1, call_timeout_s=1.0))
    assert not isinstance(ask(engine, Case(0, (2, 5), OPTIONS), 0), Failed)
    time.sleep(1.6)
    assert not isinstance(ask(engine, Case(1, (2, 5), OPTIONS), 1), Failed)
