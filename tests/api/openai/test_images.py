"""The url of OpenAI's image_url: a URL, a data: URI, base64 or an id; errors are about the picture."""

import pytest

from blip2_serve.api.openai.images import image_of
from blip2_serve.errors import InvalidImage, Part
from blip2_serve.images import ImageId, ImageUrl, Upload

DIGITS = "0f" * 32


@pytest.mark.parametrize("url", ["eHl6", "data:image/png;base64,eHl6"])
def test_a_picture_may_be_inline(url: str) -> None:
    source = image_of(url)
    assert isinstance(source, Upload)
    assert source.release() == b"xyz"


@pytest.mark.parametrize("url", ["http://x/a.jpg", "HTTPS://x/a.jpg", "file:///etc/passwd"])
def test_what_looks_like_a_url_is_one_and_is_judged_elsewhere(url: str) -> None:
    assert image_of(url) == ImageUrl(url)


@pytest.mark.parametrize("digits", [DIGITS, DIGITS.upper()])
def test_a_picture_may_be_an_id(digits: str) -> None:
    assert image_of(f"image-id:{digits}") == ImageId(b"\x0f" * 32)


@pytest.mark.parametrize("digits", ["", DIGITS[1:], f"{DIGITS}0", "g" * 64, f"{DIGITS}\n"])
def test_an_id_that_is_none_is_refused(digits: str) -> None:
    with pytest.raises(InvalidImage, match="64 hex digits") as refused:
        image_of(f"image-id:{digits}")
    assert refused.value.about == Part.IMAGE


@pytest.mark.parametrize("url", ["data:,AAAA", "data:;base64,*", "e*", "image-id!"])
def test_nothing_else_is_a_picture(url: str) -> None:
    with pytest.raises(InvalidImage, match="data:image/jpeg;base64") as refused:
        image_of(url)
    assert refused.value.about == Part.IMAGE
