"""Retrieval requests in the engine: alone and in company, with one tower for both models, through faults."""

import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from blip2_serve.engine.build import build_engine
from blip2_serve.engine.engine import Engine
from blip2_serve.engine.messages import KnownImage, RetrievalRequest
from blip2_serve.errors import DeadlineExceeded, EngineFailure, UnknownImage, UnknownModel
from support.engine.retrieving import Pair, retrieved
from support.tiny import save_tiny_retrieval_checkpoint

CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def pair(tiny_checkpoints: dict[str, Path], tiny_retrieval_checkpoint: Path) -> Pair:
    return Pair(tiny_checkpoints["opt"], tiny_retrieval_checkpoint)


def known(pair: Pair, seed: int) -> KnownImage:
    image = pair.image(seed)
    return KnownImage(image.key, (), image.states_key, "retrieval")


def num_towers(engine: Engine) -> list[int]:
    """A list that grows by the number of pictures of each run of the tower."""
    seen: list[int] = []
    tower = engine._runner.readers["retrieval"].see
    run = tower._run

    def counted(pixel_values: torch.Tensor) -> Any:
        seen.append(len(pixel_values))
        return run(pixel_values)

    tower._run = counted
    return seen


def test_pairs_match_as_transformers_says_in_any_company(pair: Pair) -> None:
    rng, driver = random.Random(0), pair.driver()
    sent = {}
    for number in range(24):
        texts = tuple(rng.choices(pair.texts, k=rng.randint(1, 5)))
        sent[number] = pair.match_request(number, rng.randrange(6), texts=texts, client=rng.choice("abc"))
        driver.send(sent[number])
        if rng.random() < 0.4:
            driver.send(pair.caption_request(100 + number, rng.randrange(6)))
        driver.step(rng.randrange(3))
    driver.run()
    for number, request in sent.items():
        logits = torch.tensor(retrieved(driver, number).itm_logits)
        assert request.image is not None
        seed = int(request.image.key.removeprefix(b"retrieved"))
        torch.testing.assert_close(
            logits, torch.stack([pair.expected_logits(seed, ids) for ids in request.texts]), **CLOSE
        )


def test_a_picture_of_both_models_is_seen_once(pair: Pair) -> None:
    driver = pair.driver()
    seen = num_towers(driver.engine)
    driver.send(pair.caption_request(0, 1), pair.match_request(1, 1))
    driver.run()
    driver.send(pair.match_request(2, 1, texts=pair.texts[:1]))
    driver.run()
    assert seen == [1]
    assert retrieved(driver, 2).itm_logits[0] == pytest.approx(retrieved(driver, 1).itm_logits[0], abs=1e-5)


def test_what_was_captioned_can_be_matched_without_pixels(pair: Pair) -> None:
    driver = pair.driver()
    driver.send(pair.caption_request(0, 2))
    driver.run()
    driver.send(pair.match_request(1, 2, image=known(pair, 2)))
    driver.run()
    assert len(retrieved(driver, 1).itm_logits) == len(pair.texts)


def test_what_was_matched_can_be_captioned_without_pixels(pair: Pair) -> None:
    driver = pair.driver()
    driver.send(pair.match_request(0, 2))
    driver.run()
    request = pair.caption_request(1, 2)
    driver.send(replace(request, image=KnownImage(request.image.key, (), request.image.states_key)))
    driver.run()
    assert driver.finished(1).rows


def test_a_picture_that_is_not_kept_fails_alone(pair: Pair) -> None:
    driver = pair.driver(vision_cache_bytes=0)
    driver.send(pair.match_request(0, 3))
    driver.run()
    driver.send(pair.match_request(1, 3, image=known(pair, 3)), pair.match_request(2, 4))
    driver.run()
    assert isinstance(driver.failed(1).error, UnknownImage)
    assert retrieved(driver, 0).itm_logits
    assert retrieved(driver, 2).itm_logits


def test_a_picture_dropped_while_it_was_waited_for_fails_alone(pair: Pair) -> None:
    driver = pair.driver()
    driver.send(pair.caption_request(0, 2))
    driver.run()
    driver.send(pair.match_request(1, 2, image=known(pair, 2)))
    driver.engine._loop._read_inbox()
    driver.engine._kept.vision._image_tokens.clear()
    driver.run()
    assert isinstance(driver.failed(1).error, UnknownImage)


def test_vectors_of_pictures_and_texts_come_without_matching(pair: Pair) -> None:
    driver = pair.driver()
    driver.send(RetrievalRequest(0, pair.image(5)), RetrievalRequest(1, texts=pair.texts))
    driver.run()
    picture, texts = retrieved(driver, 0), retrieved(driver, 1)
    assert (picture.text_vectors, picture.itm_logits, texts.image_vectors) == (b"", (), b"")
    vectors = torch.cat([pair.vectors(picture.image_vectors), pair.vectors(texts.text_vectors)])
    assert len(vectors) == pair.heads.model.config.num_query_tokens + len(pair.texts)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_a_text_that_breaks_the_model_fails_alone(pair: Pair) -> None:
    driver = pair.driver()
    driver.send(pair.match_request(0, 0), pair.match_request(1, 1, texts=((10**6,),)), pair.match_request(2, 2))
    driver.run()
    assert isinstance(driver.failed(1).error, EngineFailure)
    assert retrieved(driver, 0).itm_logits
    assert retrieved(driver, 2).itm_logits


@pytest.mark.parametrize("num_steps", [0, 1, 2])
def test_a_cancelled_request_hears_nothing_more(pair: Pair, num_steps: int) -> None:
    driver = pair.driver(vision_cache_bytes=0)
    driver.send(pair.match_request(0, 0), pair.match_request(1, 1))
    with patch.object(driver.engine._loop._line, "next_batch", return_value=[]):
        driver.step(num_steps)
    driver.engine.cancel(0)
    driver.run()
    assert driver.events[0] == []
    assert retrieved(driver, 1).itm_logits


def test_an_overdue_request_is_told(pair: Pair) -> None:
    driver = pair.driver()
    driver.send(pair.match_request(0, 0, deadline=time.monotonic() - 1), pair.match_request(1, 1))
    driver.run()
    assert isinstance(driver.failed(0).error, DeadlineExceeded)
    assert retrieved(driver, 1).itm_logits


def test_heads_alone_match_and_write_no_text(tiny_retrieval_checkpoint: Path) -> None:
    alone = Pair(None, tiny_retrieval_checkpoint)
    driver = alone.driver()
    driver.send(alone.match_request(0, 0))
    driver.run()
    expected = alone.expected_logits(0, alone.texts[0])
    torch.testing.assert_close(torch.tensor(retrieved(driver, 0).itm_logits[0]), expected, **CLOSE)
    with pytest.raises(UnknownModel):
        driver.send(alone.caption_request(1, 0))


def test_other_towers_see_each_for_themselves(tiny_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    strangers = Pair(tiny_checkpoints["opt"], save_tiny_retrieval_checkpoint(tmp_path / "stranger"))
    assert not strangers.heads.shares_tower
    driver = strangers.driver()
    driver.send(strangers.match_request(0, 1), strangers.caption_request(1, 2))
    driver.run()
    torch.testing.assert_close(
        torch.tensor(retrieved(driver, 0).itm_logits[0]), strangers.expected_logits(1, strangers.texts[0]), **CLOSE
    )


def test_threads_answer_as_the_loop_does(pair: Pair) -> None:
    engine = build_engine(pair.loaded.caption, pair.settings, pair.loaded.retrieval)
    engine.start()
    try:
        driver_events: dict[int, list[Any]] = {number: [] for number in range(20)}
        for number, events in driver_events.items():
            engine.submit(pair.match_request(number, number % 4), events.append)
        until = time.monotonic() + 20
        while not all(driver_events.values()) and time.monotonic() < until:
            time.sleep(0.01)
        for number, events in driver_events.items():
            expected = torch.stack([pair.expected_logits(number % 4, ids) for ids in pair.texts])
            torch.testing.assert_close(torch.tensor(events[0].itm_logits), expected, **CLOSE)
    finally:
        engine.stop()


def test_requests_that_leave_while_they_are_compared_cost_nobody_the_engine(pair: Pair) -> None:
    driver = pair.driver()
    heads = driver.engine._runner.compare_texts
    assert heads is not None
    embed = heads.embed_texts

    def leave_first(texts: Any) -> torch.Tensor:
        for number in range(12):
            driver.engine.cancel(number)
        driver.engine._loop._read_inbox()
        return embed(texts)

    with patch.object(heads, "embed_texts", leave_first):
        driver.send(*(pair.match_request(number, number % 3, texts=pair.texts[:1]) for number in range(13)))
        driver.run()
    assert [driver.events[number] for number in range(12)] == [[]] * 12
    assert retrieved(driver, 12).itm_logits


def test_pixels_that_come_later_serve_a_request_that_had_none(pair: Pair) -> None:
    driver = pair.driver()
    driver.send(pair.caption_request(0, 2))
    driver.run()
    driver.send(pair.match_request(1, 2, image=known(pair, 2)), pair.match_request(2, 2))
    driver.engine._loop._read_inbox()
    driver.engine._kept.vision._image_tokens.clear()
    driver.run()
    assert len(retrieved(driver, 1).itm_logits) == len(retrieved(driver, 2).itm_logits) == len(pair.texts)
