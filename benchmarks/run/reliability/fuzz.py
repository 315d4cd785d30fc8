"""Damage pictures at random, and decode them: each is taken or refused in a sentence, and the decoders go on.

`make fuzz`: 15 minutes. Prints a line of JSON; a picture that is neither taken nor refused is written to the system's
temporary folder.
"""

import argparse
import io
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from blip2_serve.errors import RequestError
from blip2_serve.images.decoder_pool import DecoderPool

_LIMIT = 1_000_000
_BICUBIC = 3
# What headers are made of: lengths and counts at their bounds.
_WORDS = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff", b"\0\0", b"\x80\0\0\0", b"\0\x01"]


def main() -> None:
    """Fuzz for so many seconds and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(dict(fuzz(options.seconds, options.seed))))


def fuzz(seconds: float, seed: int) -> Counter[str]:
    """Decode damaged pictures; return how many were taken, and how many were refused by which error.

    Raises:
        AssertionError: a picture did something else.
    """
    rng, outcomes = random.Random(seed), Counter[str]()
    sound = [*_sound_pictures()]
    pool, until = DecoderPool(1, _LIMIT), time.monotonic() + seconds
    with tqdm(unit="picture", disable=seconds < 60) as progress:
        while time.monotonic() < until:
            data = damaged(rng.choice(sound), rng)
            outcomes[_outcome(pool, data)] += 1
            progress.update()
    pool.close()
    return outcomes


def _outcome(pool: DecoderPool, data: bytes) -> str:
    try:
        pool.decode(data, 28, _BICUBIC)
    except RequestError as error:
        return type(error).__name__
    except Exception as error:
        kept = Path(tempfile.mkdtemp(prefix="blip2-fuzz-")) / "picture"
        kept.write_bytes(data)
        raise AssertionError(f"{kept} is neither taken nor refused") from error
    return "taken"


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Change a few places: bytes, words at their bounds, pieces that vanish or come twice."""
    body = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        rng.choice(_DAMAGES)(body, rng)
    return bytes(body)


def _place(body: bytearray, rng: random.Random) -> int:
    """Prefer the beginning, where headers are."""
    most = max(1, len(body) - 1)
    return rng.randrange(min(most, 512)) if rng.random() < 0.6 else rng.randrange(most)


def _byte(body: bytearray, rng: random.Random) -> None:
    if body:
        body[min(_place(body, rng), len(body) - 1)] = rng.randrange(256)


def _word(body: bytearray, rng: random.Random) -> None:
    place, word = _place(body, rng), rng.choice(_WORDS)
    body[place : place + len(word)] = word


def _cut(body: bytearray, rng: random.Random) -> None:
    place = _place(body, rng)
    del body[place : place + rng.randint(1, 64)]


def _double(body: bytearray, rng: random.Random) -> None:
    place = _place(body, rng)
    body[place:place] = body[place : place + rng.randint(1, 64)] * rng.randint(1, 50)


_DAMAGES: list[Callable[[bytearray, random.Random], None]] = [_byte, _byte, _word, _word, _cut, _double]


def _sound_pictures() -> list[bytes]:
    picture = Image.linear_gradient("L").resize((48, 40))
    exif = Image.Exif()
    exif[274] = 6
    kinds = [
        ("JPEG", "RGB", {"exif": exif}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("MPO", "RGB", {"save_all": True, "append_images": [picture.convert("RGB")]}),
        ("PNG", "RGBA", {"exif": exif}),
        ("PNG", "P", {}),
        ("PNG", "RGB", {"save_all": True, "append_images": [picture.convert("RGB")]}),
        ("WEBP", "RGB", {"exif": exif}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("GIF", "P", {"save_all": True, "append_images": [picture.convert("P")]}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "L", {"compression": "tiff_deflate"}),
        ("AVIF", "RGB", {"exif": exif}),
    ]
    return [_saved(picture.convert(mode), format_, options) for format_, mode, options in kinds]


def _saved(picture: Image.Image, format_: str, options: dict[str, object]) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


if __name__ == "__main__":
    main()
