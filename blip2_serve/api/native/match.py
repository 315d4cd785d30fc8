"""POST /match: texts compared with a picture."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, Field, field_validator

from blip2_serve.api.image_text import ID_PATTERN
from blip2_serve.api.native.answers import AS_OBJECT
from blip2_serve.api.native.fields import PICTURE, PICTURE_ID, Example, Fields, one_image, texts_of, whole_texts
from blip2_serve.images import ImageSource
from blip2_serve.tasks.retrieval.verbs import Match

MAX_TEXTS = 256
_PLAIN = {"words": None, "unsupported": None}


class MatchFields(Fields):
    """A picture and the texts to compare it with."""

    path: ClassVar[str] = "/match"
    example: ClassVar[Example] = Example(
        {"texts": ["a yellow star", "a green circle"]},
        {
            "matches": [
                {"text": "a yellow star", "itm": 0.99, "itm_logit": 4.25, "itc": 0.9, **_PLAIN},
                {"text": "a green circle", "itm": 0.0, "itm_logit": -9.34, "itc": 0.2, **_PLAIN},
            ]
        },
    )
    tells: ClassVar[frozenset[str]] = frozenset({"image", "model"})
    repeatable: ClassVar[frozenset[str]] = frozenset({"texts"})

    img: ImageSource | None = Field(None, description=PICTURE)
    texts: list[str] = Field(
        min_length=1, max_length=MAX_TEXTS, description="1 to 256 texts; in a form repeated or as JSON"
    )
    explain: bool = Field(
        False, description="tell for each word how much likelier the picture makes it, by the captioning model"
    )
    img_id: str | None = Field(None, pattern=ID_PATTERN, description=PICTURE_ID)

    @field_validator("texts", mode="before")
    @classmethod
    def _texts_may_be_json(cls, texts: object) -> object:
        texts = texts_of(texts)
        return [texts] if isinstance(texts, str) else texts

    @field_validator("texts")
    @classmethod
    def _texts_are_bounded(cls, texts: list[str]) -> list[str]:
        return whole_texts(texts)

    @property
    def image(self) -> ImageSource:
        """The picture, see `one_image`."""
        return one_image(self.img, self.img_id)


class MatchAnswer(BaseModel):
    """Answer of /match, in the order of the texts."""

    matches: list[Annotated[Match, AS_OBJECT]]
