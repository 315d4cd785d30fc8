"""Faults stay with the request that causes them; when nothing works, it is the device."""

from typing import Any

import pytest
import torch

from blip2_serve.engine.runner import DeviceLost
from blip2_serve.engine.vision.image_cache import ImageCache
from blip2_serve.errors import EngineFailure
from blip2_serve.options import DecodingOptions
from support.engine.driving import Driver, answer, encoder_of, make_engine
from support.engine.faulty import POISON, faulty_engine, poison
from support.engine.wide_models import Case, make_model

OPTIONS = DecodingOptions(num_beams=1, max_new_tokens=12)
BEAMS = DecodingOptions(num_beams=3, max_new_tokens=12)


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model("opt", "none", torch.float32)


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


def test_when_every_request_fails_it_is_not_the_requests(model: Any) -> None:
    def fault(call: str, sequences: list[Any]) -> None:
        raise RuntimeError("device lost")

    driver = Driver(faulty_engine(model, fault))
    driver.send(*[Case(0, (2, 5), OPTIONS).request(request_id) for request_id in range(10)])
    with pytest.raises(DeviceLost):
        driver.run()
