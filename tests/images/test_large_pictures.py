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

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    running = DecoderPool(1, LIMIT)
    yield running
    running.close()


@cache
def photograph(mode: str) -> Image.Image:
    """Draw a picture with soft detail everywhere, about as much as a photograph has."""
    return spotted(mode, 16)


@cache
def poster(mode: str) -> Image.Image:
    """Draw large spots in steps of 16 levels: of what is drawn in more detail, a lossless file fits into no request."""
    return spotted(mode, 192).point(lambda value: value & 0xF0)


def spotted(mode: str, size: int) -> Image.Image:
    """Draw spots of so many pixels, which fade into each other."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (SIZE[1] // size, SIZE[0] // size, len(mode)), dtype=np.uint8)
    drawn = Image.fromarray(small.squeeze(), None if mode != "CMYK" else "CMYK")
    return drawn.resize(SIZE, Image.Resampling.BILINEAR)


def saved(format_: str, mode: str, turned: bool, options: dict[str, Any]) -> bytes:
    exif = Image.Exif()
    if turned:
        exif[274] = 6
    file = io.BytesIO()
    draw = poster if format_ in ("PNG", "GIF") else photograph
    draw(mode).save(file, format_, exif=exif, **options)
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
        ("WEBP", "RGBA", True, {"method": 0, "quality": 75}),
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
    pixels = pool.decode(data, 28, BICUBIC).pixels
    assert pixels == squash(load_image(data, LIMIT).image, 28, BICUBIC)
