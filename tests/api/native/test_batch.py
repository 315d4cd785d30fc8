"""The fields of /batch: pictures, one text for all or one for each, and the options of the task."""

import pytest

from blip2_serve.api.native.ask import AskFields
from blip2_serve.api.native.batch import BatchFields
from blip2_serve.api.native.caption import CaptionFields
from blip2_serve.api.native.fields import validate_fields
from blip2_serve.errors import InvalidField, InvalidImage, Part
from blip2_serve.families import FLAN_T5, OPT
from blip2_serve.images import Upload

IMG = Upload(b"picture")


def batch(num_pictures: int = 2, **values: object) -> BatchFields:
    return validate_fields(BatchFields, {"imgs": [IMG] * num_pictures, **values})


@pytest.mark.parametrize(
    ("txt", "texts"),
    [
        (None, [None, None]),
        ("a", ["a", "a"]),
        (["a", "b"], ["a", "b"]),
        (["a", ""], ["a", None]),
        ('["a", "b"]', ["a", "b"]),
        ("[1, 2]", ["[1, 2]", "[1, 2]"]),
    ],
)
def test_a_text_is_for_all_pictures_or_for_each(txt: object, texts: list[str | None]) -> None:
    assert batch(txt=txt).texts == texts


def test_options_default_to_those_of_the_task() -> None:
    for family in (OPT, FLAN_T5):
        answer = validate_fields(AskFields, {"img": IMG}).options(family)
        caption = validate_fields(CaptionFields, {"img": IMG}).options(family)
        assert batch(task="vqa").options(family) == answer != caption
        assert batch().options(family) == caption
    assert batch(num_beams="3").options(OPT).num_beams == 3


def test_a_picture_that_could_not_be_read_keeps_its_place() -> None:
    bad = InvalidImage("img is no string: send it.", about=Part.IMAGE)
    assert validate_fields(BatchFields, {"imgs": [IMG, bad]}).imgs == [IMG, bad]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("imgs", [], "at least 1"),
        ("imgs", [IMG] * 65, "at most 64"),
        ("task", "chat", "caption"),
        ("txt", ["a"], "1 texts for 2 pictures"),
        ("txt", ["a", "b", "c"], "one for each"),
        ("txt", ["a", "\ud800"], "surrogate"),
        ("txt", "x" * 32_769, "characters"),
        ("txt", 5, "string"),
        ("num_beams", 17, "16"),
        ("img", IMG, "no field"),
        ("num_captions", 2, "no field"),
    ],
)
def test_what_breaks_the_rules_is_refused_by_name(name: str, value: object, message: str) -> None:
    with pytest.raises(InvalidField, match=message) as caught:
        batch(**{name: value})
    assert (caught.value.about or "").split(".")[0] == name


def test_missing_pictures_are_named() -> None:
    with pytest.raises(InvalidField, match="imgs is missing"):
        validate_fields(BatchFields, {})
