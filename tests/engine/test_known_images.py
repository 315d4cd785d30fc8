"""Requests that name a picture by its key alone, without pixels."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from blip2_serve.engine.messages import KnownImage, Request
from blip2_serve.engine.vision.image_cache import ImageCache, ImageFolder
from blip2_serve.errors import UnknownImage
from blip2_serve.options import DecodingOptions
from support.engine import wide_models
from support.engine.driving import Driver, answer, make_engine
from support.engine.wide_models import Case, ids_of, make_model

GREEDY = DecodingOptions(num_beams=1, max_new_tokens=20)


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model("opt", "none", torch.float32)


def sent(request_id: int) -> Request:
    return Case(0, (2, 9), GREEDY).request(request_id)


def known(request_id: int) -> Request:
    """Make the same request, by the key of its picture."""
    return dataclasses.replace(sent(request_id), image=KnownImage(wide_models.image(0).key))


def is_unknown(driver: Driver, request_id: int) -> bool:
    return isinstance(driver.failed(request_id).error, UnknownImage)


def test_a_picture_in_the_cache_needs_no_pixels(model: Any) -> None:
    driver = Driver(make_engine(model))
    driver.send(sent(1))
    driver.run()
    driver.send(known(2))
    driver.run()
    assert driver.finished(2).rows == driver.finished(1).rows
    assert driver.engine.stats().num_images_encoded == 1


def test_a_picture_that_nobody_sent_fails_alone_and_at_once(model: Any) -> None:
    driver = Driver(make_engine(model))
    driver.send(Case(1, (2, 9), GREEDY).request(1), known(2))
    driver.step()
    assert is_unknown(driver, 2)
    driver.run()
    assert driver.finished(1)


def test_a_picture_that_waits_to_be_encoded_is_waited_for(model: Any) -> None:
    driver = Driver(make_engine(model, max_images_per_step=1))
    driver.send(Case(1, (2, 9), GREEDY).request(0), sent(1), known(2))
    driver.step()
    driver.engine.cancel(1)  # its pixels stay while another request waits for them
    driver.run()
    assert ids_of(driver.finished(2).rows) == ids_of(answer(model, sent(1)).rows)
    assert driver.events[1] == []


def test_a_picture_that_has_left_the_cache_is_unknown(model: Any) -> None:
    driver = Driver(make_engine(model, image_cache=ImageCache(0)))
    driver.send(sent(1))
    driver.run()
    driver.send(known(2))
    driver.run()
    assert is_unknown(driver, 2)


def test_a_picture_that_leaves_the_cache_while_its_request_waits_for_rows_is_kept_for_it(model: Any) -> None:
    cache = ImageCache(1 << 20)
    driver = Driver(make_engine(model, image_cache=cache, max_rows=1))
    driver.send(sent(1))
    driver.run()
    driver.send(Case(1, (2, 9), GREEDY).request(2), known(3))
    driver.step()
    cache._image_tokens.clear()
    driver.run()
    assert driver.finished(3).rows == driver.finished(1).rows


def test_what_the_folder_holds_counts_as_there(model: Any, tmp_path: Path) -> None:
    shape = (model.config.num_query_tokens, model.language_projection.out_features)
    for request in (sent(1), known(1)):
        folder = ImageFolder(tmp_path, 1 << 20, torch.float32, shape)
        driver = Driver(make_engine(model, image_cache=ImageCache(1 << 20, folder)))
        driver.send(request)
        driver.run()
        assert driver.finished(1)
    assert driver.engine.stats().num_images_encoded == 0
