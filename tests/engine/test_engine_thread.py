"""The engine's thread: calls from other threads, and a loop that dies or hangs, which is noticed at once."""

import random
import threading
import time
from typing import Any

import pytest
import torch

from blip2_serve.engine.engine import Engine
from blip2_serve.engine.messages import Event, Failed, Finished
from blip2_serve.errors import EngineDead
from blip2_serve.options import DecodingOptions
from support.engine.driving import make_engine
from support.engine.faulty import faulty_engine
from support.engine.wide_models import Case, make_model

OPTIONS = DecodingOptions(num_beams=1, max_new_tokens=12)
BEAMS = DecodingOptions(num_beams=3, max_new_tokens=12)


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model("opt", "none", torch.float32)


class Caller:
    """Waits for the last event of one request."""

    def __init__(self) -> None:
        self.last: Event | None = None
        self._done = threading.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Finished | Failed):
            self.last = event
            self._done.set()

    def wait(self, timeout_s: float = 20.0) -> Event:
        assert self._done.wait(timeout_s), "no answer"
        assert self.last is not None
        return self.last


def ids_of(event: Event) -> list[tuple[int, ...]]:
    assert isinstance(event, Finished)
    return [row.ids for row in event.rows]


def ask(engine: Engine, count: int) -> list[Caller]:
    callers = [Caller() for _ in range(count)]
    for request_id, caller in enumerate(callers):
        engine.submit(Case(request_id % 3, (2, 5, 6), OPTIONS).request(request_id), caller)
    return callers


def test_the_thread_answers_requests_from_other_threads(model: Any, started: Any) -> None:
    engine = started(make_engine(model))
    assert engine.is_alive
    assert all(isinstance(caller.wait(), Finished) for caller in ask(engine, 12))


def test_an_idle_engine_holds_no_keys_and_values_and_answers_as_before(
    model: Any, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blip2_serve.engine.engine.REST_AFTER_S", 0.1)
    monkeypatch.setattr("blip2_serve.engine.engine.IDLE_S", 0.02)
    engine = started(make_engine(model))
    before = [caller.wait() for caller in ask(engine, 12)]
    groups = list(engine._runner.groups.values())
    assert any(group.slots for group in groups)
    deadline = time.monotonic() + 5
    while any(group.slots for group in groups) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [group.slots for group in groups] == [0] * len(groups)
    assert engine._books.owned_cells == 0
    after = [caller.wait() for caller in ask(engine, 12)]
    assert [ids_of(event) for event in after] == [ids_of(event) for event in before]


def test_an_error_in_the_loop_answers_everybody_within_a_second(
    model: Any, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(model, max_rows=2)
    monkeypatch.setattr(engine._loop, "_decode_rows", lambda: 1 / 0)
    callers = ask(engine, 12)
    began = time.monotonic()
    started(engine)
    events = [caller.wait() for caller in callers]
    assert time.monotonic() - began < 1.0
    assert all(isinstance(event, Failed) and isinstance(event.error, EngineDead) for event in events)
    assert not engine.is_alive
    with pytest.raises(EngineDead):
        engine.submit(Case(0, (2,), OPTIONS).request(99), Caller())


def test_a_step_that_hangs_is_found_and_everybody_is_answered(model: Any, started: Any) -> None:
    released = threading.Event()

    def fault(call: str, sequences: list[Any]) -> None:
        released.wait(10)

    engine = started(faulty_engine(model, fault, call_timeout_s=0.2))
    events = [caller.wait() for caller in ask(engine, 4)]
    assert all(isinstance(event, Failed) and isinstance(event.error, EngineDead) for event in events)
    assert not engine.is_alive
    released.set()


def test_a_step_of_many_slow_calls_does_not_hang(model: Any, started: Any) -> None:
    engine = started(faulty_engine(model, lambda call, sequences: time.sleep(0.2), call_timeout_s=0.6))
    callers = [Caller() for _ in range(5)]
    for num_beams, caller in enumerate(callers, 1):
        options = DecodingOptions(num_beams=num_beams, max_new_tokens=1)
        engine.submit(Case(0, (2, 5), options).request(num_beams), caller)
    assert all(isinstance(caller.wait(), Finished) for caller in callers)
    assert engine.is_alive


def test_stopping_does_not_wait_for_a_step_that_hangs(model: Any) -> None:
    reached, released = threading.Event(), threading.Event()

    def fault(call: str, sequences: list[Any]) -> None:
        reached.set()
        released.wait(20)

    engine = faulty_engine(model, fault)
    engine.start()
    callers = ask(engine, 2)
    assert reached.wait(10)
    stopping = threading.Thread(target=engine.stop, args=(0.1,))
    stopping.start()
    stopping.join(5)
    assert not stopping.is_alive()
    assert all(isinstance(caller.wait(), Failed) for caller in callers)
    released.set()


def test_stopping_answers_those_who_still_wait(model: Any) -> None:
    engine = make_engine(model)
    callers = ask(engine, 3)
    engine.stop()
    assert all(isinstance(caller.wait(), Failed) for caller in callers)


def test_a_sink_that_raises_hurts_nobody_else(model: Any, started: Any) -> None:
    engine = started(make_engine(model))

    def broken(event: Event) -> None:
        raise RuntimeError("the caller has gone")

    engine.submit(Case(0, (2,), OPTIONS).request(50), broken)
    assert isinstance(ask(engine, 1)[0].wait(), Finished)
    assert engine.is_alive


def test_books_that_do_not_balance_stop_the_engine(model: Any, started: Any) -> None:
    engine = make_engine(model)
    engine._books.owned_cells += 1
    started(engine)
    deadline = time.monotonic() + 5
    while engine.is_alive and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not engine.is_alive


def test_callers_that_come_and_go_from_many_threads_leave_nothing_behind(model: Any, started: Any) -> None:
    engine = started(make_engine(model, max_rows=16))
    numbers = iter(range(10_000))
    unanswered: list[int] = []

    def call(seed: int) -> None:
        choice = random.Random(seed)
        for _ in range(8):
            request_id, caller = next(numbers), Caller()
            options = choice.choice([OPTIONS, BEAMS, DecodingOptions(num_beams=1, do_sample=True, max_new_tokens=5)])
            engine.submit(Case(choice.randrange(4), (2, 5, 6), options).request(request_id), caller)
            if choice.random() < 0.4:
                time.sleep(choice.random() / 100)
                engine.cancel(request_id)
            elif not isinstance(caller.wait(), Finished):
                unanswered.append(request_id)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 5
    while engine.stats().num_rows and time.monotonic() < deadline:
        time.sleep(0.01)
    stats = engine.stats()
    assert (unanswered, stats.num_rows, stats.num_running, stats.num_waiting) == ([], 0, 0, 0)
    assert engine.is_alive
    engine._runner.check_books()
