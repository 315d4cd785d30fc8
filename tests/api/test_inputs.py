"""Texts and pictures side by side."""

import pytest

from blip2_serve.api.inputs import TextInput, input_of
from blip2_serve.errors import InvalidField, InvalidImage
from blip2_serve.images import ImageId, ImageUrl, Upload

ID = "ab" * 32


@pytest.mark.parametrize(
    "text",
    ["a red circle", "", "see https://example.com/a.png", "image-id: what is that?", "data: none", "iVBORw0KGgo="],
)
def test_a_string_is_a_text_unless_it_can_only_be_a_picture(text: str) -> None:
    assert input_of(text, "input.0") == TextInput(text)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("data:image/png;base64,AAAA", Upload),
        ("https://example.com/a.png", ImageUrl),
        (f"image-id:{ID}", ImageId),
        ({"image": "AAAA"}, Upload),
        ({"image": f"image-id:{ID}"}, ImageId),
        ({"image": "http://example.com/a.png"}, ImageUrl),
    ],
)
def test_a_picture_is_recognised(value: object, kind: type) -> None:
    assert isinstance(input_of(value, "input.0"), kind)


def test_an_item_says_that_it_is_a_text() -> None:
    assert input_of({"text": "https://example.com"}, "input.0") == TextInput("https://example.com")


@pytest.mark.parametrize("wrong", [1, None, [], {}, {"text": 1}, {"txt": "a"}, {"text": "a", "image": "b"}])
def test_anything_else_is_refused_by_its_place(wrong: object) -> None:
    with pytest.raises(InvalidField) as caught:
        input_of(wrong, "input.7")
    assert caught.value.about == "input.7"


@pytest.mark.parametrize("wrong", [{"image": "image-id:12"}, {"image": 5}, {"image": "no base64!"}])
def test_a_picture_that_is_none_is_refused_by_its_place(wrong: object) -> None:
    with pytest.raises(InvalidImage) as caught:
        input_of(wrong, "documents.3")
    assert caught.value.about == "documents.3"
