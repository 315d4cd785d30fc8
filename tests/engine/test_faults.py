"""Faults stay where they belong; a dead or hung loop is known at once."""

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.engine.driving import Driver, answer, backend_of, encoder_of, make_engine
from support.engine.wide_models import Case, make_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blip2_serve.engine import runner
from blip2_serve.engine.cache.kv_cache import KVCache
from blip2_serve.engine.engine import Engine
from blip2_serve.engine.messages import Event, Failed, Finished
from blip2_serve.engine.runner import DeviceLost
from blip2_serve.engine.vision.image_cache import ImageCache
from blip2_serve.errors import EngineDead, EngineFailure
from blip2_serve.options import DecodingOptions

OPTIONS = DecodingOptions(num_beams=1, max_new_tokens=12)
BEAMS = DecodingOptions(num_beams=3, max_new_tokens=12)
POISON = 77


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model("opt", "none", torch.float32)


class Faulty:
    """A backend that asks `fault` before each call, with the name of the call and the sequences in it."""

    def __init__(self, backend: Any, fault: Callable[[str, list[Any]], None]) -> None:
        self._backend = backend
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def prefill(self, span: Any, image_tokens: Any) -> None:
        self._fault("prefill", span.sequences)
        self._backend.prefill(span, image_tokens)

    def decode(self, steps: Any) -> torch.Tensor:
        self._fault("decode", [sequence for step in steps for sequence in step.span.sequences])
        return self._backend.decode(steps)


def faulty_engine(model: Any, fault: Callable[[str, list[Any]], None], **settings: Any) -> Engine:
    return make_engine(model, backend=Faulty(backend_of(model), fault), **settings)


def poison(where: str) -> Callable[[str, list[Any]], None]:
    def fault(call: str, sequences: list[Any]) -> None:
        if call == where and any(POISON in sequence.request.prompt_ids for sequence in sequences):
            raise ValueError("poisoned")

    return fault


@pytest.mark.parametrize("where", ["prefill", "decode"])
def test_a_request_that_cannot_run_hurts_only_itself(model: Any, where: str) -> None:
    driver = Driver(faulty_engine(model, poison(where)))
    prompts = [(2, 5), (2, 6, 7), (2, POISON), (2, 8), (2, 9)]
    for request_id, prompt in enumerate(prompts):
        driver.send(Case(0, prompt, BEAMS if request_id % 2 else OPTIONS).request(request_id))
    driver.run()
    assert isinstance(driver.failed(2).error, EngineFailure)
    for request_id in (0, 1, 3, 4):
        alone = answer(model, Case(0, prompts[request_id], BEAMS if request_id % 2 else OPTIONS).request(0))
        assert driver.finished(request_id).rows[0].ids == alone.rows[0].ids


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_out_of_memory_splits_the_batch_and_tries_again(model: Any, error: Exception) -> None:
    def fault(call: str, sequences: list[Any]) -> None:
        if len(sequences) > 2:
            raise error

    driver = Driver(faulty_engine(model, fault))
    sampled = DecodingOptions(num_beams=1, do_sample=True, seed=4, max_new_tokens=12)
    cases = [Case(0, (2, 5 + n), (OPTIONS, BEAMS, sampled)[n % 3]) for n in range(9)]
    driver.send(*[case.request(request_id) for request_id, case in enumerate(cases)])
    driver.run()
    for request_id, case in enumerate(cases):
        assert driver.finished(request_id).rows[0].ids == answer(model, case.request(0)).rows[0].ids


def test_out_of_memory_of_a_request_alone_is_its_own_failure_however_often(model: Any) -> None:
    def fault(call: str, sequences: list[Any]) -> None:
        raise torch.OutOfMemoryError("out of memory")

    driver = Driver(faulty_engine(model, fault))
    driver.send(*[Case(0, (2, 5), OPTIONS).request(request_id) for request_id in range(20)])
    driver.run()
    assert all(isinstance(driver.failed(request_id).error, EngineFailure) for request_id in range(20))


def test_images_that_cannot_be_encoded_hurt_only_their_own_requests(model: Any) -> None:
    def encode(images: list[bytes], instructions: Any) -> torch.Tensor:
        if len(images) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return encoder_of(model)(images)

    driver = Driver(make_engine(model, encode_images=encode))
    driver.send(*[Case(n, (2, 5), OPTIONS).request(n) for n in range(4)])
    driver.run()
    assert all(driver.finished(request_id) for request_id in range(4))


@pytest.mark.parametrize("kind", ["opt", "opt-projected", "t5-gated-untied"])
@pytest.mark.parametrize("shape", [(7, 32), (3, 32), (4, 40), (1, 32)])
def test_image_tokens_of_another_shape_are_never_answered_from(kind: str, shape: tuple[int, int]) -> None:
    cache, case = ImageCache(1 << 20), Case(0, (2, 5), OPTIONS)
    cache.put(case.request(0).image.key, torch.ones(shape))
    driver = Driver(make_engine(make_model(kind, "none", torch.float32), image_cache=cache))
    driver.send(case.request(0), Case(1, (2, 5), OPTIONS).request(1))
    driver.run()
    assert isinstance(driver.failed(0).error, EngineFailure)
    assert driver.finished(1)


class NoNewMemory(TorchDispatchMode):
    """Lets only those operations pass that write to or look at memory which is there, except within `allowed`."""

    allowed = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage().data_ptr() for tensor in tensors((args, kwargs))}
        new = [tensor for tensor in tensors(out) if tensor.untyped_storage().data_ptr() not in given]
        if not self.allowed and any(tensor.nbytes for tensor in new):
            raise torch.OutOfMemoryError(f"{func} takes memory")
        return out


def tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def test_memory_is_taken_only_where_running_out_of_it_is_survived(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mode, attempt = NoNewMemory(), runner._attempt

    def guarded(run: Callable[[], None]) -> Exception | None:
        mode.allowed = True
        try:
            return attempt(run)
        finally:
            mode.allowed = False

    monkeypatch.setattr(runner, "_attempt", guarded)
    driver = Driver(make_engine(model))
    for request_id in range(9):
        kind = {"num_beams": 1 + request_id % 3, "repetition_penalty": 1.0 + request_id % 2}
        options = DecodingOptions(max_new_tokens=3 + request_id, **kind)
        driver.send(Case(0, (2, 5 + request_id), options).request(request_id))
    with mode:
        driver.run()
    assert all(driver.finished(request_id) for request_id in range(9))


class ScarceMemory(TorchDispatchMode):
    """Every now and then an operation finds no memory, as long as `is_scarce`."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.is_scarce = False
        self._random = random.Random(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.is_scarce and self._random.random() < 0.001:
            raise torch.OutOfMemoryError("out of memory")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["opt", "t5-gated-untied"])
def test_scarce_memory_changes_no_answer_and_loses_no_request(
    kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request may fail, but what is answered is right, and the books balance."""
    model, mode, attempt = make_model(kind, "one", torch.float32), ScarceMemory(seed), runner._attempt
    cases = [
        Case(n % 5, (2, 5 + n), DecodingOptions(num_beams=1 + n % 4, repetition_penalty=1 + n % 2, max_new_tokens=9))
        for n in range(24)
    ]
    alone = [answer(model, case.request(0)).rows[0].ids for case in cases]

    def scarce(run: Callable[[], None]) -> Exception | None:
        mode.is_scarce = True
        try:
            return attempt(run)
        finally:
            mode.is_scarce = False

    monkeypatch.setattr(runner, "_attempt", scarce)
    driver = Driver(make_engine(model, max_rows=16))
    driver.send(*[case.request(request_id) for request_id, case in enumerate(cases)])
    with mode:
        driver.run()
    last = [driver.events[request_id][-1] for request_id in range(len(cases))]
    assert any(isinstance(event, Finished) for event in last)
    for event, ids in zip(last, alone, strict=True):
        assert event.rows[0].ids == ids if isinstance(event, Finished) else isinstance(event, Failed)


@pytest.fixture
def limit_slots(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many slots memory holds: all together, whatever their shape; only the last layer finds that out."""
    owned: dict[KVCache, int] = {}

    def limit(slots: int) -> None:
        def zeros(cache: KVCache, wanted: int, layer: int) -> torch.Tensor:
            others = sum(size for owner, size in owned.items() if owner is not cache)
            is_last_layer = wanted > 0 and len(cache._layers[0]) == wanted
            if is_last_layer and others + wanted > slots:
                raise torch.OutOfMemoryError("out of memory")
            return make_zeros(cache, wanted, layer)

        def resize(cache: KVCache, wanted: int) -> None:
            change_size(cache, wanted)
            owned[cache] = wanted

        make_zeros, change_size = KVCache._zeros, KVCache.resize
        monkeypatch.setattr(KVCache, "_zeros", zeros)
        monkeypatch.setattr(KVCache, "resize", resize)

    return limit


def test_requests_for_whose_slots_there_is_no_memory_wait_for_those_of_others(model: Any, limit_slots: Any) -> None:
    cases = [Case(n % 3, (2, 5 + n), OPTIONS if n % 4 else BEAMS) for n in range(20)]
    alone = [answer(model, case.request(0)).rows[0].ids for case in cases]
    limit_slots(4)
    driver = Driver(make_engine(model))
    driver.send(*[case.request(request_id) for request_id, case in enumerate(cases)])
    driver.run()
    assert [driver.finished(request_id).rows[0].ids for request_id in range(20)] == alone


def test_spare_slots_are_given_back_before_a_request_fails_for_want_of_memory(model: Any, limit_slots: Any) -> None:
    limit_slots(2)
    driver = Driver(make_engine(model))
    driver.send(*[Case(0, (2, 5), OPTIONS).request(request_id) for request_id in range(2)])
    driver.run()
    driver.send(Case(0, (2, 5), BEAMS).request(2))
    driver.run()
    assert driver.finished(2)


def test_a_request_that_finds_no_memory_even_alone_fails_and_the_next_is_tried(model: Any, limit_slots: Any) -> None:
    limit_slots(0)
    driver = Driver(make_engine(model))
    driver.send(*[Case(0, (2, 5), OPTIONS).request(request_id) for request_id in range(3)])
    driver.run()
    assert all(isinstance(driver.failed(request_id).error, EngineFailure) for request_id in range(3))


def test_when_every_request_fails_it_is_not_the_requests(model: Any) -> None:
    def fault(call: str, sequences: list[Any]) -> None:
        raise RuntimeError("device lost")

    driver = Driver(faulty_engine(model, fault))
    driver.send(*[Case(0, (2, 5), OPTIONS).request(request_id) for request_id in range(10)])
    with pytest.raises(DeviceLost):
        driver.run()


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


def ask(engine: Engine, count: int) -> list[Caller]:
    callers = [Caller() for _ in range(count)]
    for request_id, caller in enumerate(callers):
        engine.submit(Case(request_id % 3, (2, 5, 6), OPTIONS).request(request_id), caller)
    return callers


def test_the_thread_answers_requests_from_other_threads(model: Any, started: Any) -> None:
    engine = started(make_engine(model))
    assert engine.is_alive
    assert all(isinstance(caller.wait(), Finished) for caller in ask(engine, 12))


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
