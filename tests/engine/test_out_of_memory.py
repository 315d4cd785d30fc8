"""Want of memory splits batches, lets requests wait or fails one of them, and changes no answer."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blip2_serve.engine import runner
from blip2_serve.engine.cache.kv_cache import KVCache
from blip2_serve.engine.messages import Failed, Finished
from blip2_serve.errors import EngineFailure
from blip2_serve.options import DecodingOptions
from support.engine.driving import Driver, answer, make_engine
from support.engine.faulty import faulty_engine
from support.engine.wide_models import Case, make_model

OPTIONS = DecodingOptions(num_beams=1, max_new_tokens=12)
BEAMS = DecodingOptions(num_beams=3, max_new_tokens=12)


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model("opt", "none", torch.float32)


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


class NoNewMemory(TorchDispatchMode):
    """Lets only operations pass that write to or view existing memory, except within `allowed`."""

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
    """Now and then lets an operation find no memory, while `is_scarce`."""

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
    """A request may fail, but every answer is right, and the books balance."""
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
    """Limit the slots that memory holds, of all shapes together; only the last layer runs out of memory."""
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
