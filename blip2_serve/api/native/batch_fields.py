"""The fields of /batch: many pictures, one task, one text for all or one for each."""

from typing import Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from blip2_serve.api.native.fields import (
    MAX_TEXT_CHARACTERS,
    AskFields,
    CaptionFields,
    DecodingFields,
    Fields,
    texts_of,
    whole_characters,
)
from blip2_serve.errors import Blip2Error
from blip2_serve.families import Family
from blip2_serve.images import ImageSource
from blip2_serve.tasks.verbs import BatchTask

MAX_PICTURES = 64


class PicturesFields(Fields):
    """Pictures, a task and the texts for it."""

    imgs: list[ImageSource | Blip2Error] = Field(
        min_length=1, max_length=MAX_PICTURES, description="1 to 64 pictures: the file part repeated, or a JSON list"
    )
    task: BatchTask = Field("caption", description="caption, as /generate does it, or vqa, as /vqa; default caption")
    txt: str | list[str] | None = Field(
        None, description="as /generate or /vqa takes it: one for all, or a list with one for each picture"
    )

    @field_validator("txt", mode="before")
    @classmethod
    def _txt_may_be_json(cls, txt: object) -> object:
        return texts_of(txt)

    @field_validator("txt")
    @classmethod
    def _txt_is_for_all_or_each(cls, txt: str | list[str] | None, info: ValidationInfo) -> str | list[str] | None:
        texts = [txt] if isinstance(txt, str) else txt or []
        if any(len(whole_characters(text)) > MAX_TEXT_CHARACTERS for text in texts):
            raise ValueError(f"a text has more than {MAX_TEXT_CHARACTERS} characters: shorten it")
        num_pictures = len(info.data.get("imgs", texts))
        if isinstance(txt, list) and len(txt) != num_pictures:
            raise ValueError(f"{len(txt)} texts for {num_pictures} pictures: give one for all or one for each")
        return txt


class BatchFields(DecodingFields, PicturesFields):
    """Pictures to caption or to ask about, and how to decode."""

    repeatable: ClassVar[frozenset[str]] = frozenset({"imgs", "txt"})

    @property
    def texts(self) -> list[str | None]:
        """One text per picture; None where none is given."""
        texts = self.txt if isinstance(self.txt, list) else [self.txt] * len(self.imgs)
        return [text or None for text in texts]

    def defaults(self, family: Family) -> dict[str, Any]:  # type: ignore[override]  # the defaults depend on `task`
        """Return the defaults of /vqa or /generate, whichever does the task for one picture."""
        alone = AskFields if self.task == "vqa" else CaptionFields
        return alone.defaults(family)
