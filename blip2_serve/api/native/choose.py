"""POST /choose: given answers to a question, ranked."""

from typing import ClassVar

from pydantic import BaseModel, Field, field_validator

from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, Example, PictureFields, texts_of, whole_characters
from blip2_serve.tasks.scored.choices import Choice, Normalize

MAX_CHOICES = 64


class ChooseFields(PictureFields):
    """A question about a picture and the answers to choose from."""

    path: ClassVar[str] = "/choose"
    example: ClassVar[Example] = Example(
        {"txt": "is there a circle?", "choices": ["yes", "no"]},
        {
            "choices": [
                {"text": "no", "probability": 0.999, "log_likelihood": -0.001},
                {"text": "yes", "probability": 0.001, "log_likelihood": -6.796},
            ]
        },
    )
    tells: ClassVar[frozenset[str]] = frozenset({"image", "model"})

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
        return different_choices(choices)


class ChooseAnswer(BaseModel):
    """Answer of /choose, most probable first."""

    choices: list[Choice]


def different_choices(choices: list[str]) -> list[str]:
    """Strip the choices: the model writes an answer after exactly one space.

    Raises:
        ValueError: one is empty or holds half a character, two are the same, or all together are too long.
    """
    stripped = [whole_characters(choice.strip()) for choice in choices]
    if not all(stripped):
        raise ValueError("a choice is empty: give each a text")
    if len(set(stripped)) < len(stripped):
        raise ValueError("two choices are the same: give each once")
    if sum(map(len, stripped)) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"the choices have more than {MAX_TEXT_CHARACTERS} characters: shorten them")
    return stripped
