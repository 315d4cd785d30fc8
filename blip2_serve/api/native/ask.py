"""POST /vqa: the answer to a question."""

from typing import Any, ClassVar

from pydantic import Field

from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, Example, ImageFields
from blip2_serve.families import Family


class AskFields(ImageFields):
    """A question about a picture."""

    path: ClassVar[str] = "/vqa"
    example: ClassVar[Example] = Example(
        {"txt": "what color is the background?"},
        "blue",
    )
    tells: ClassVar[frozenset[str]] = frozenset({"image", "model", "text"})

    txt: str | None = Field(
        None, max_length=MAX_TEXT_CHARACTERS, description="the question; default: What is this a picture of?"
    )

    @staticmethod
    def defaults(family: Family) -> dict[str, Any]:
        """LAVIS's `predict_answers`: short answers, and no reward for length."""
        return dict(family.vqa_defaults)
