"""Fields have types, bounds and defaults; an error names the field at fault."""

from typing import Any

import pytest

from blip2_serve.api.errors import error_body
from blip2_serve.api.native.ask import AskFields
from blip2_serve.api.native.caption import CaptionFields
from blip2_serve.api.native.chat import ChatFields
from blip2_serve.api.native.fields import ImageFields, validate_fields
from blip2_serve.errors import InvalidField, Part, PromptTooLong
from blip2_serve.families import FLAN_T5, OPT
from blip2_serve.images import ImageId, Upload
from blip2_serve.options import DecodingOptions

IMG = Upload(b"picture")


def caption(**values: object) -> CaptionFields:
    return validate_fields(CaptionFields, {"img": IMG, **values})


def refusal(model: type[ImageFields], **values: object) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        validate_fields(model, {"img": IMG, **values}).options(OPT)
    return caught.value


def test_captions_default_to_the_reference() -> None:
    expected = DecodingOptions(
        max_new_tokens=30, min_new_tokens=0, num_beams=5, do_sample=False, length_penalty=1.0, seed=None
    )
    assert caption().options(OPT) == caption().options(FLAN_T5) == expected


def test_answers_are_short_and_their_length_penalty_follows_the_family() -> None:
    fields = validate_fields(AskFields, {"img": IMG})
    assert [fields.options(family).length_penalty for family in (OPT, FLAN_T5)] == [0.0, -1.0]
    assert (fields.options(OPT).max_new_tokens, fields.options(OPT).num_beams) == (10, 5)


def test_chat_defaults_to_those_of_captions() -> None:
    assert validate_fields(ChatFields, {"img": IMG}).options(FLAN_T5) == DecodingOptions()


def test_sampling_defaults_to_one_beam_and_the_nucleus() -> None:
    options = caption(do_sample="true").options(OPT)
    assert (options.num_beams, options.temperature, options.top_p, options.top_k) == (1, 1.0, 0.9, 50)


def test_options_are_read_from_text_and_from_numbers() -> None:
    as_text = caption(max_new_tokens="7", top_p="0.5", do_sample="true", seed="9")
    assert as_text.options(OPT) == caption(max_new_tokens=7, top_p=0.5, do_sample=True, seed=9).options(OPT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", 257),
        ("max_new_tokens", "many"),
        ("max_new_tokens", 1.5),
        ("min_new_tokens", -1),
        ("num_beams", 0),
        ("num_beams", 17),
        ("do_sample", "perhaps"),
        ("temperature", 0),
        ("temperature", "nan"),
        ("temperature", float("inf")),
        ("top_p", 0),
        ("top_p", 1.01),
        ("top_k", -1),
        ("repetition_penalty", 0),
        ("length_penalty", "inf"),
        ("no_repeat_ngram_size", -1),
        ("seed", -1),
        ("seed", 2**63),
        ("txt", 5),
        ("txt", ["a"]),
        ("txt", "\ud800"),
        ("txt", "x" * 32_769),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(name: str, value: Any) -> None:
    error = refusal(CaptionFields, **{name: value})
    assert (error.about, error.status) == (name, 400)
    assert name in error.message


def test_unknown_fields_are_refused_and_the_known_ones_listed() -> None:
    error = refusal(CaptionFields, max_tokens=5)
    assert error.about == "max_tokens"
    assert "max_new_tokens" in error.message


def test_context_is_a_field_of_chat_alone() -> None:
    assert refusal(AskFields, context=[]).about == "context"


def test_a_missing_picture_is_named() -> None:
    with pytest.raises(InvalidField, match="img is missing") as caught:
        _ = validate_fields(CaptionFields, {}).image
    assert caught.value.about == Part.IMAGE


def test_an_id_stands_for_the_picture() -> None:
    assert caption().image is IMG
    assert validate_fields(ChatFields, {"img_id": "0F" * 32}).image == ImageId(b"\x0f" * 32)


def test_a_picture_comes_one_way_and_not_two() -> None:
    with pytest.raises(InvalidField, match="one of the two") as caught:
        _ = caption(img_id="0f" * 32).image
    assert caught.value.about == Part.IMAGE_ID


@pytest.mark.parametrize("digits", ["", "0f" * 31, "0f" * 33, "0g" * 32, "0f" * 32 + "\n", 7])
def test_an_id_has_64_hex_digits(digits: object) -> None:
    with pytest.raises(InvalidField) as caught:
        validate_fields(CaptionFields, {"img_id": digits})
    assert caught.value.about == "img_id"


def test_beams_and_sampling_exclude_each_other() -> None:
    assert refusal(CaptionFields, do_sample=True, num_beams=2).about == "num_beams"
    assert caption(do_sample=True, num_beams=1).options(OPT).do_sample


def test_fewest_tokens_above_most_tokens_is_refused() -> None:
    assert refusal(AskFields, min_new_tokens=11).about == "min_new_tokens"


def test_an_empty_text_is_no_text() -> None:
    assert caption(txt="").txt is None
    assert caption(txt=" ").txt == " "


@pytest.mark.parametrize("context", ['[["a", "b"]]', [["a", "b"]], [("a", "b")]])
def test_context_is_pairs_as_json_or_as_values(context: object) -> None:
    assert validate_fields(ChatFields, {"img": IMG, "context": context}).context == [("a", "b")]


@pytest.mark.parametrize(
    "context",
    [
        "a, b",
        "[" * 100_000,
        '{"a": "b"}',
        [["a"]],
        [["a", "b", "c"]],
        [["a", 1]],
        [["a", "\udfff"]],
        [["a", "b"]] * 257,
    ],
)
def test_context_of_another_shape_is_refused(context: object) -> None:
    assert refusal(ChatFields, context=context).about == "context"


def test_errors_know_their_status() -> None:
    assert error_body(PromptTooLong("x"))["error"]["code"] == "prompt_too_long"
