"""The fields of /captions and /choose."""

import json
from typing import Any

import pytest

from blip2_serve.api.native.caption_several import CaptionSeveralFields
from blip2_serve.api.native.choose import ChooseFields
from blip2_serve.api.native.fields import validate_fields
from blip2_serve.errors import InvalidField
from blip2_serve.families import OPT
from blip2_serve.images import Upload

IMG = Upload(b"picture")


def choose(**values: object) -> ChooseFields:
    return validate_fields(ChooseFields, {"img": IMG, **values})


def test_captions_takes_what_generate_takes_and_a_number() -> None:
    fields = validate_fields(CaptionSeveralFields, {"img": IMG, "num_captions": "16", "do_sample": "true", "txt": "a"})
    assert (fields.num_captions, fields.txt, fields.options(OPT).do_sample) == (16, "a", True)
    assert validate_fields(CaptionSeveralFields, {"img": IMG}).num_captions == 5


@pytest.mark.parametrize("number", [0, 17, "many", 1.5])
def test_a_number_of_captions_out_of_bounds_is_refused_by_name(number: Any) -> None:
    with pytest.raises(InvalidField) as caught:
        validate_fields(CaptionSeveralFields, {"img": IMG, "num_captions": number})
    assert caught.value.about == "num_captions"


def test_the_choices_are_yes_and_no_and_compared_by_sums() -> None:
    assert (choose().choices, choose().normalize) == (["yes", "no"], "sum")


@pytest.mark.parametrize("choices", [["a", " b "], ("a", "b"), '["a", "b"]'])
def test_choices_are_a_list_or_json(choices: object) -> None:
    assert choose(choices=choices, normalize="length").choices == ["a", "b"]


def test_choices_that_look_like_json_are_texts() -> None:
    assert choose(choices=["[1]", "{}"]).choices == ["[1]", "{}"]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["a"], "at least 2"),
        ("a", "at least 2"),
        ("[1, 2]", "at least 2"),
        ("[" * 100_000, "at least 2"),
        (["a"] * 65, "at most 64"),
        (["a", "a"], "the same"),
        (["a", " a"], "the same"),
        (["a", ""], "empty"),
        (["a", " \n"], "empty"),
        (["a", 1], "string"),
        ({"a": "b"}, "list"),
        (["a", "\udfff"], "surrogate"),
        (["a", "b" * 32_768], "characters"),
    ],
)
def test_choices_that_cannot_be_compared_are_refused_by_name(choices: object, message: str) -> None:
    with pytest.raises(InvalidField, match=message) as caught:
        choose(choices=choices)
    assert caught.value.about == "choices"


@pytest.mark.parametrize(("name", "value"), [("normalize", "mean"), ("num_beams", 2), ("context", "[]"), ("txt", 5)])
def test_other_fields_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidField) as caught:
        choose(**{name: value})
    assert caught.value.about == name


def test_sixty_four_choices_are_taken() -> None:
    assert len(choose(choices=json.dumps([str(number) for number in range(64)])).choices) == 64
