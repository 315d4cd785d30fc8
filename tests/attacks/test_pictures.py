"""Whatever a picture is made of, it costs no more than its size allows, and nobody else notices."""

import resource
import threading
import time
from collections.abc import Callable

import pytest

from blip2_serve.errors import InvalidImage
from blip2_serve.images import decoder_wire as wire
from blip2_serve.images.decoder_pool import DecoderPool, Squashed
from support.attacks import pictures
from support.pictures import jpeg

LIMIT = 50_000_000
BICUBIC = 3
START_CPU_S = 1.0  # of the process itself and the one that replaces it, on a slow machine


def outcome_and_cost(data: bytes) -> tuple[Squashed | InvalidImage, float, int]:
    """Decode; return the pixels or the refusal, the CPU seconds of all decoders, and the bytes one grew by."""
    pool = DecoderPool(1, LIMIT)
    pool.decode(jpeg(), 28, BICUBIC)
    decoder = pool._idle[0]
    _, before = decoder._usage() or (0.0, 0)
    sampled, done = [before], threading.Event()

    def sample() -> None:
        while not done.wait(0.003):
            sampled.append((decoder._usage() or (0.0, 0))[1])

    sampling = threading.Thread(target=sample)
    sampling.start()
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        outcome: Squashed | InvalidImage = pool.decode(data, 28, BICUBIC)
    except InvalidImage as error:
        outcome = error
    done.set()
    sampling.join()
    pool.close()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return outcome, ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime, max(sampled) - before


@pytest.mark.parametrize(
    ("make", "num_pixels"),
    [
        (pictures.tiff_of_many_strips, 0),
        (pictures.png_with_chunks_behind, 0),
        (pictures.bmp_of_single_pixels, 8_000_000),
        (pictures.jpeg_of_many_scans, 16_000_000),
        (pictures.avif_that_lies, 4096),
    ],
)
def test_a_picture_that_costs_too_much_is_refused_in_time(make: Callable[[], bytes], num_pixels: int) -> None:
    data = make()
    outcome, cpu_s, num_bytes = outcome_and_cost(data)
    assert isinstance(outcome, InvalidImage)
    assert outcome.message.endswith(".")
    assert cpu_s < wire.allowed_cpu_s(num_pixels) + START_CPU_S
    assert num_bytes < wire.BYTES_PER_PIXEL * num_pixels + 150_000_000


@pytest.mark.parametrize(
    ("make", "num_pixels"),
    [
        (pictures.png_with_exif_of_rationals, 4096),
        (pictures.bmp_of_short_lines, 65_535 * 100),
        (pictures.tiff_bomb, 49_000_000),
    ],
)
def test_a_strange_picture_is_taken_or_refused_within_what_its_size_allows(
    make: Callable[..., bytes], num_pixels: int
) -> None:
    data = make(height=100) if make is pictures.bmp_of_short_lines else make()
    _, cpu_s, num_bytes = outcome_and_cost(data)
    assert cpu_s < wire.allowed_cpu_s(num_pixels) + START_CPU_S
    assert num_bytes < wire.BYTES_PER_PIXEL * num_pixels + 150_000_000


def test_other_pictures_are_decoded_beside_one_that_takes_long() -> None:
    pool = DecoderPool(2, LIMIT)
    pool.start()
    pool.decode(jpeg(), 28, BICUBIC)
    refused: list[InvalidImage] = []

    def attack() -> None:
        try:
            pool.decode(slow, 28, BICUBIC)
        except InvalidImage as error:
            refused.append(error)

    slow = pictures.jpeg_of_many_scans()
    attacking = threading.Thread(target=attack)
    attacking.start()
    time.sleep(0.2)
    num_decoded = 0
    while attacking.is_alive():
        pool.decode(jpeg(), 28, BICUBIC)
        num_decoded += 1
    pool.close()
    assert len(refused) == 1
    assert num_decoded > 20
