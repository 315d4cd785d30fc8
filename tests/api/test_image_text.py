"""A picture sent as text: base64, a data: URI or a URL."""

import base64
import random
import time
from collections.abc import Callable

import pytest

from blip2_serve.api.image_text import image_source
from blip2_serve.errors import InvalidImage
from blip2_serve.images import ImageUrl, Upload

DIGITS = "0f" * 32


@pytest.mark.parametrize("text", ["eHl6", "eH\nl6 ", "data:image/png;base64,eHl6", "DATA:;base64,eHl6"])
def test_inline_pictures_are_base64(text: str) -> None:
    source = image_source(text)
    assert isinstance(source, Upload)
    assert source.release() == b"xyz"


@pytest.mark.parametrize(
    "text", ["data:image/png,xyz", "e*", "eHl6e", "eHl6%", 7, None, {"a": 1}, f"image-id:{DIGITS}"]
)
def test_inline_pictures_are_nothing_else(text: object) -> None:
    with pytest.raises(InvalidImage, match="base64"):
        image_source(text)


# Every byte and every pair of neighbours: both signs of base64 beside the letters and digits.
PICTURE = random.Random(1).randbytes(100_001)
STANDARD = base64.b64encode(PICTURE).decode()


def in_lines(text: str, width: int, end: str) -> str:
    return end.join(text[start : start + width] for start in range(0, len(text), width))


@pytest.mark.parametrize(
    "changed",
    [
        lambda text: text.rstrip("="),
        lambda text: text.replace("+", "-").replace("/", "_"),
        lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),
        lambda text: in_lines(text, 76, "\r\n") + "\r\n",
        lambda text: in_lines(text, 64, "\n    "),
        lambda text: in_lines(text, 76, " "),
        lambda text: text.replace("+", " "),
        lambda text: in_lines(text, 76, "\n").replace("+", " "),
        lambda text: text.replace("+", " ").rstrip("="),
        lambda text: text.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D"),
    ],
    ids=["no padding", "url-safe", "both", "lines", "indented", "folded", "pluses", "lines of them", "and all", "URI"],
)
@pytest.mark.parametrize("before", ["", "data:image/png;base64,", " data:;base64, "])
def test_base64_is_read_however_it_was_mangled(changed: Callable[[str], str], before: str) -> None:
    for size in (100_001, 100_000, 99_999, 61):
        picture = PICTURE[:size]
        source = image_source(before + changed(base64.b64encode(picture).decode()))
        assert isinstance(source, Upload)
        assert source.release() == picture


def test_a_picture_that_a_form_has_spoilt_takes_no_longer() -> None:
    text = STANDARD[:133_332] * 200
    began = time.perf_counter()
    image_source(text)
    whole_s = time.perf_counter() - began
    for spoilt in (text.replace("+", " "), in_lines(text, 76, " "), text.replace("+", "%2B"), "%2B" * 9_000_000):
        began = time.perf_counter()
        try:
            image_source(spoilt)
        except InvalidImage:
            assert spoilt.startswith("%")
        assert time.perf_counter() - began < 10 * whole_s + 0.5


def test_a_url_is_not_looked_for_in_megabytes_of_base64() -> None:
    with pytest.raises(InvalidImage):
        image_source("a" * 33 + "://x")


@pytest.mark.parametrize("text", ["http://x/a", "HTTPS://x", " ftp://x", "file:///etc/passwd"])
def test_what_looks_like_a_url_is_one_and_is_judged_elsewhere(text: str) -> None:
    assert image_source(text) == ImageUrl(text)
