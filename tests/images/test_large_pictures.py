"""Pictures of 50 megapixels that fit into a request are taken in every format, turned and with alpha."""

import io
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blip2_serve.config import Settings
from blip2_serve.images import load_image, squash
from blip2_serve.images.decoder_pool import DecoderPool

LIMIT = Settings().max_image_pixels
MAX_BYTES = Settings().max_request_bytes
SIZE = (8192, 6103)
BICUBIC = 3
DETAIL = 192
"""Pixels to a spot."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    running = DecoderPool(1, LIMIT)
    yield running
    running.close()


@cache
def photograph(mode: str) -> Image.Image:
    """Draw a picture with detail everywhere, in steps of 16: a PNG that is smooth does not fit into a request."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (SIZE[1] // DETAIL, SIZE[0] // DETAIL, len(mode)), dtype=np.uint8)
    drawn = Image.fromarray(small.squeeze(), None if mode != "CMYK" else "CMYK")
    return drawn.resize(SIZE, Image.Resampling.BILINEAR).point(lambda value: value & 0xF0)


def saved(format_: str, mode: str, turned: bool, options: dict[str, Any]) -> bytes:
    exif = Image.Exif()
    if turned:
        exif[274] = 6
    file = io.BytesIO()
    photograph(mode).save(file, format_, exif=exif, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("format_", "mode", "turned", "options"),
    [
        ("JPEG", "RGB", False, {"quality": 90}),
        ("JPEG", "RGB", True, {"quality": 90, "progressive": True, "subsampling": 0}),
        ("JPEG", "CMYK", False, {}),
        ("PNG", "RGB", False, {"compress_level": 1}),
        ("PNG", "RGBA", True, {"compress_level": 1}),
        ("WEBP", "RGB", False, {"method": 0}),
        ("WEBP", "RGBA", True, {"method": 0}),
        ("AVIF", "RGBA", True, {"speed": 10}),
        ("TIFF", "RGB", False, {"compression": "tiff_lzw"}),
        ("BMP", "RGB", False, {}),
        ("GIF", "L", False, {}),
    ],
)
def test_fifty_megapixels_are_taken(
    pool: DecoderPool, format_: str, mode: str, turned: bool, options: dict[str, Any]
) -> None:
    data = saved(format_, mode, turned, options)
    assert len(data) <= MAX_BYTES or format_ in ("BMP", "TIFF")  # these come to /batch
    pixels = pool.decode(data, 28, BICUBIC)
    assert pixels == squash(load_image(data, LIMIT).image, 28, BICUBIC)
