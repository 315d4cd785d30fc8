"""The tabs' inputs become the endpoints' fields."""

import asyncio
from pathlib import Path

import pytest

from blip2_serve.api.native.caption import CaptionFields
from blip2_serve.api.native.fields import validate_fields
from blip2_serve.errors import InvalidField, InvalidImage
from blip2_serve.families import OPT
from blip2_serve.images import Upload
from blip2_serve.ui.picture import upload_of
from blip2_serve.ui.tabs.chat import turns_of
from blip2_serve.ui.tabs.choose import choices_of
from blip2_serve.ui.tabs.decoding import BEAM_SEARCH, NUCLEUS_SAMPLING, decoding_fields


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("yes, no", ["yes", "no"]),
        ("red\ngreen, perhaps blue\n", ["red", "green, perhaps blue"]),
        (" one ,, two , ", ["one", "two"]),
        ("\n\n", []),
    ],
)
def test_choices_stand_on_lines_or_between_commas(text: str, choices: list[str]) -> None:
    assert choices_of(text) == choices


def test_the_history_is_the_turns_of_a_chat() -> None:
    history = [
        {"role": "user", "content": [{"type": "text", "text": "what is it?"}]},
        {"role": "assistant", "content": "a star"},
    ]
    assert turns_of(history) == [("what is it?", "a star")]


@pytest.mark.parametrize(
    "history",
    [[{"role": "user", "content": "alone"}], [{}, {}], [{"content": 1}] * 2, [{"content": [{"file": "x"}]}] * 2],
)
def test_a_history_of_anything_else_is_refused(history: list[dict[str, object]]) -> None:
    with pytest.raises(InvalidField, match="clear it"):
        turns_of(history)


def test_beam_search_and_nucleus_sampling_are_options_of_the_endpoints() -> None:
    picture = {"img": Upload(b"")}
    searching = validate_fields(CaptionFields, {**picture, **decoding_fields(BEAM_SEARCH, 0.5, 2.0, 1.5)}).options(OPT)
    assert not searching.do_sample
    assert (searching.num_beams, searching.length_penalty, searching.repetition_penalty) == (5, 2.0, 1.5)
    drawing = validate_fields(CaptionFields, {**picture, **decoding_fields(NUCLEUS_SAMPLING, 0.5, 2.0, 1.5)})
    options = drawing.options(OPT)
    assert options.do_sample
    assert (options.num_beams, options.temperature, options.repetition_penalty) == (1, 0.5, 1.5)


def test_without_a_picture_one_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match="There is no picture"):
        asyncio.run(upload_of(None))
    with pytest.raises(InvalidImage, match="no longer here"):
        asyncio.run(upload_of({"path": str(tmp_path / "gone.png")}))
