"""Pictures as strangers send them: every format, mode and kind of damage."""

import io
import random
import zlib

import numpy as np
from PIL import Image


def encode(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    """Encode a picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def gradient(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Make a smooth RGB picture that differs by `seed`."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)


def jpeg(width: int = 64, height: int = 48, seed: int = 0) -> bytes:
    """Make a small valid JPEG."""
    return encode(gradient(width, height, seed), "JPEG", quality=90)


def png_header_of(width: int, height: int) -> bytes:
    """Make a PNG that claims a size but holds only a few bytes, like a decompression bomb."""
    small = encode(Image.new("1", (8, 8)))
    header = small[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + small[24:29]
    return header + zlib.crc32(header[12:29]).to_bytes(4, "big") + small[33:]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A copy with a few bytes changed at random, perhaps cut short."""
    copy = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        copy[rng.randrange(len(copy))] = rng.randrange(256)
    return bytes(copy[: rng.choice([len(copy), rng.randrange(len(copy))])])
