"""The whole encoder: pixels to image tokens."""

import random
from pathlib import Path

import pytest
import torch

from blip2_serve.config import Settings
from blip2_serve.model.load import LoadedModel, load_model
from blip2_serve.model.vision.encoder import ImageEncoder


def encoder_of(loaded: LoadedModel) -> ImageEncoder:
    return ImageEncoder(loaded.model, loaded.image_processor)


@pytest.mark.parametrize("family", ["opt", "t5"])
def test_a_traced_encoder_gives_the_same_bits_for_every_number_of_images(
    tiny_models: dict[str, LoadedModel], family: str
) -> None:
    loaded = tiny_models[family]
    plain, traced = encoder_of(loaded), encoder_of(loaded)
    traced.trace()
    rng = random.Random(0)
    for num_images in (1, 2, 3, 8, 1, 8, 8, 5):
        images = [rng.randbytes(loaded.image_size**2 * 3) for _ in range(num_images)]
        assert torch.equal(plain(images), traced(images))


def test_a_traced_encoder_reads_the_weights_that_are_there_already(tiny_models: dict[str, LoadedModel]) -> None:
    loaded = tiny_models["opt"]
    encoder = encoder_of(loaded)
    encoder.trace()
    image = [bytes(loaded.image_size**2 * 3)]
    before = encoder(image)
    queries = loaded.model.query_tokens.data
    queries += 1
    try:
        assert not torch.equal(encoder(image), before)
    finally:
        queries -= 1


def test_an_encoder_of_packed_weights_is_left_as_it_is(tiny_checkpoints: dict[str, Path]) -> None:
    path = tiny_checkpoints["opt"]
    loaded = load_model(Settings(model=str(path), dtype="bfloat16"), path)
    encoder = encoder_of(loaded)
    image = [bytes(loaded.image_size**2 * 3)]
    before = encoder(image)
    encoder.trace()
    assert torch.equal(encoder(image), before)
