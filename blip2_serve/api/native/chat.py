"""POST /chat: the answer to a question after earlier turns."""

import json
from typing import ClassVar

from pydantic import Field, field_validator

from blip2_serve.api.native.fields import (
    MAX_TEXT_CHARACTERS,
    MAX_TURNS,
    Example,
    ImageFields,
    whole_characters,
)
from blip2_serve.families import Turn


class ChatFields(ImageFields):
    """The next question of a conversation about a picture."""

    path: ClassVar[str] = "/chat"
    example: ClassVar[Example] = Example(
        {"txt": "what color is it?", "context": [["what shape is on the right?", "diamond"]]},
        "red",
    )
    tells: ClassVar[frozenset[str]] = frozenset({"image", "model", "text", "dropped turns"})

    txt: str | None = Field(
        None, max_length=MAX_TEXT_CHARACTERS, description="the question; default: What is this a picture of?"
    )
    context: list[Turn] | None = Field(
        None,
        max_length=MAX_TURNS,
        description='earlier turns, [["question", "answer"], ...]; in a form as JSON',
    )

    @field_validator("context", mode="before")
    @classmethod
    def _context_is_json(cls, context: object) -> object:
        return _parse_json(context) if isinstance(context, str) else context

    @field_validator("context")
    @classmethod
    def _context_is_text(cls, context: list[Turn] | None) -> list[Turn] | None:
        return checked_turns(context) if context else context


def checked_turns(turns: list[Turn]) -> list[Turn]:
    """Return earlier turns unchanged.

    Raises:
        ValueError: one is too long or holds half a character.
    """
    for question, answer in turns:
        if len(question) + len(answer) > MAX_TEXT_CHARACTERS:
            raise ValueError(f"a turn has more than {MAX_TEXT_CHARACTERS} characters")
        whole_characters(question + answer)
    return turns


def _parse_json(text: str) -> object:
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError('must be JSON: [["question", "answer"], ...]') from None
