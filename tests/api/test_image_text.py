"""A picture sent as text: base64, a data: URI or a URL."""

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


@pytest.mark.parametrize("text", ["data:image/png,xyz", "e*", "eHl", 7, None, {"a": 1}, f"image-id:{DIGITS}"])
def test_inline_pictures_are_nothing_else(text: object) -> None:
    with pytest.raises(InvalidImage, match="base64"):
        image_source(text)


def test_a_url_is_not_looked_for_in_megabytes_of_base64() -> None:
    with pytest.raises(InvalidImage):
        image_source("a" * 33 + "://x")


@pytest.mark.parametrize("text", ["http://x/a", "HTTPS://x", " ftp://x", "file:///etc/passwd"])
def test_what_looks_like_a_url_is_one_and_is_judged_elsewhere(text: str) -> None:
    assert image_source(text) == ImageUrl(text)
