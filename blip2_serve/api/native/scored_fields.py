"""The fields of /captions and /choose, whose answers carry scores."""

from typing import ClassVar

from pydantic import Field, field_validator

from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, CaptionFields, PictureFields, texts_of, whole_characters
from blip2_serve.options import MAX_NUM_BEAMS
from blip2_serve.tasks.choose import Normalize

MAX_CHOICES = 64


class CaptionSeveralFields(CaptionFields):
    """A picture to caption several times; `txt` is how each caption begins."""

    num_captions: int = Field(
        5, ge=1, le=MAX_NUM_BEAMS, description="most captions, 1 to 16; num_beams rises to it; default 5"
    )


class ChooseFields(PictureFields):
    """A question about a picture and the answers to choose from."""

    repeatable: ClassVar[frozenset[str]] = frozenset({"choices"})

    txt: str | None = Field(
        None, max_length=MAX_TEXT_CHARACTERS, description="the question; default: What is this a picture of?"
    )
    choices: list[str] = Field(
        ["yes", "no"],
        min_length=2,
        max_length=MAX_CHOICES,
        description="2 to 64 different answers; in a form repeated or as JSON; default yes and no",
    )
    normalize: Normalize = Field(
        "sum", description="compare log-likelihoods as sums over tokens, or as means (length); default sum"
    )

    @field_validator("choices", mode="before")
    @classmethod
    def _choices_may_be_json(cls, choices: object) -> object:
        choices = texts_of(choices)
        return [choices] if isinstance(choices, str) else choices

    @field_validator("choices")
    @classmethod
    def _choices_differ(cls, choices: list[str]) -> list[str]:
        """Strip the choices: the model writes an answer after exactly one space."""
        stripped = [whole_characters(choice.strip()) for choice in choices]
        if not all(stripped):
            raise ValueError("a choice is empty: give each a text")
        if len(set(stripped)) < len(stripped):
            raise ValueError("two choices are the same: give each once")
        if sum(map(len, stripped)) > MAX_TEXT_CHARACTERS:
            raise ValueError(f"the choices have more than {MAX_TEXT_CHARACTERS} characters: shorten them")
        return stripped
