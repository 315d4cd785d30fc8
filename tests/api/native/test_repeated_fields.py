"""Lists in bodies: a form repeats the field or sends JSON; only list fields may repeat."""

import base64
from urllib.parse import urlencode

import pytest
from api.test_body import MULTIPART, PICTURE, form, read

from blip2_serve.errors import InvalidField, InvalidImage
from blip2_serve.images import ImageUrl, Upload

URLENCODED = "application/x-www-form-urlencoded"
LISTS = frozenset({"imgs", "choices"})


def test_a_repeated_text_is_a_list_and_a_single_one_a_text() -> None:
    twice = form(PICTURE, ('name="choices"', b"yes"), ('name="choices"', b'"no"'))
    assert read(MULTIPART, twice, repeatable=LISTS)["choices"] == ["yes", "no"]
    assert read(MULTIPART, form(('name="choices"', b'["a"]')), repeatable=LISTS) == {"choices": '["a"]'}
    encoded = urlencode([("choices", "yes"), ("choices", "")]).encode()
    assert read(URLENCODED, encoded, repeatable=LISTS) == {"choices": ["yes", ""]}


def test_an_untouched_list_counts_as_not_given() -> None:
    assert read(MULTIPART, form(('name="choices"', b"")), repeatable=LISTS) == {}


def test_only_what_may_be_repeated_is() -> None:
    with pytest.raises(InvalidField, match="txt was sent twice"):
        read(MULTIPART, form(('name="txt"', b"a"), ('name="txt"', b"b")), repeatable=LISTS)
    with pytest.raises(InvalidField, match="choices was sent twice"):
        read(MULTIPART, form(('name="choices"', b"a"), ('name="choices"', b"b")))


def pictures(content_type: str, body: bytes) -> list[bytes | type]:
    """Return each picture's bytes, or the class of the error in its place."""
    imgs = read(content_type, body, repeatable=LISTS)["imgs"]
    assert isinstance(imgs, list)
    return [img.release() if isinstance(img, Upload) else type(img) for img in imgs]


def test_pictures_are_a_list_in_every_body() -> None:
    part = ('name="imgs"; filename="a.jpg"', b"xyz")
    assert pictures(MULTIPART, form(part)) == [b"xyz"]
    assert pictures(MULTIPART, form(part, part)) == [b"xyz", b"xyz"]
    assert pictures(URLENCODED, b"imgs=eHl6&imgs=eHl6") == [b"xyz", b"xyz"]
    assert pictures("application/json", b'{"imgs": ["eHl6", "data:;base64,eHl6"]}') == [b"xyz", b"xyz"]


def test_a_url_among_pictures_is_left_to_be_fetched() -> None:
    values = read("application/json", b'{"imgs": ["http://x/a", "eHl6"]}', repeatable=LISTS)
    assert isinstance(values["imgs"], list)
    assert values["imgs"][0] == ImageUrl("http://x/a")


def test_a_picture_that_is_none_stands_as_an_error_among_the_others() -> None:
    assert pictures("application/json", b'{"imgs": ["eHl6", "e*", 7]}') == [b"xyz", InvalidImage, InvalidImage]
    nothing = ('name="imgs"; filename="a.jpg"', b"")
    assert pictures(MULTIPART, form(nothing, nothing)) == [b"", b""]


def test_more_pictures_than_are_taken_reach_the_fields_which_say_so() -> None:
    part = ('name="imgs"; filename="a.jpg"', b"xyz")
    assert len(pictures(MULTIPART, form(*[part] * 65))) == 65
    body = urlencode([("imgs", base64.b64encode(b"xyz").decode())] * 65).encode()
    assert len(pictures(URLENCODED, body)) == 65
    with pytest.raises(InvalidField):
        pictures(MULTIPART, form(*[part] * 2000))
