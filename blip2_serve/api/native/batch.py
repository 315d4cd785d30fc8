"""POST /batch: many pictures, one task, one text for all or one for each."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from blip2_serve.api.errors import BATCH_FIELDS, error_body
from blip2_serve.api.native.answers import AS_OBJECT, Error
from blip2_serve.api.native.ask import AskFields
from blip2_serve.api.native.caption import MIN_CONFIDENCE, RETURN_FULL_TEXT, CaptionFields, needs_review
from blip2_serve.api.native.fields import (
    MAX_TEXT_CHARACTERS,
    DecodingFields,
    Example,
    Fields,
    texts_of,
    whole_characters,
)
from blip2_serve.errors import Blip2Error
from blip2_serve.families import Family
from blip2_serve.images import ImageSource
from blip2_serve.options import FinishReason
from blip2_serve.tasks.completion import Answer, OutputOptions
from blip2_serve.tasks.verbs import BatchTask

MAX_PICTURES = 64


class ManyPicturesFields(Fields):
    """Pictures, a task and the texts for it."""

    imgs: list[ImageSource | Blip2Error] = Field(
        min_length=1, max_length=MAX_PICTURES, description="1 to 64 pictures: the file part repeated, or a JSON list"
    )
    min_confidence: float | None = Field(None, ge=0, le=1, description=f"of captions: {MIN_CONFIDENCE}")
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


class BatchFields(DecodingFields, ManyPicturesFields):
    """Pictures to caption or to ask about, and how to decode."""

    path: ClassVar[str] = "/batch"
    example: ClassVar[Example] = Example(
        {"task": "vqa", "txt": "what color is the background?"},
        {
            "results": [
                {
                    "text": "blue",
                    "image_id": "46c52db4d1fe5a56b1075cda2e7604bfce92a83342e5c836ae32ad536cc2c4ea",
                    "new_tokens": 2,
                    "finish_reason": "stop",
                    "confidence": None,
                    "needs_review": False,
                    "guards": [],
                }
            ]
        },
    )
    tells: ClassVar[frozenset[str]] = frozenset({"model"})

    repeatable: ClassVar[frozenset[str]] = frozenset({"imgs", "txt"})
    return_full_text: bool = Field(True, description=f"of captions: {RETURN_FULL_TEXT}")

    @property
    def output(self) -> OutputOptions:
        """Guard answers and begin captions with their prefix, where it is asked for."""
        return OutputOptions(guards=self.guards, echoes=self.return_full_text)

    @property
    def texts(self) -> list[str | None]:
        """One text per picture; None where none is given."""
        texts = self.txt if isinstance(self.txt, list) else [self.txt] * len(self.imgs)
        return [text or None for text in texts]

    @property
    def only_captions(self) -> bool:
        """True if no text is asked or continued."""
        return self.task == "caption" and not any(self.texts)

    def defaults(self, family: Family) -> dict[str, Any]:  # type: ignore[override]  # the defaults depend on `task`
        """Return the defaults of /vqa or /generate, whichever does the task for one picture."""
        alone = AskFields if self.task == "vqa" else CaptionFields
        return alone.defaults(family)


class Answered(BaseModel):
    """The answer about one picture of /batch; `text` is null where `needs_review`."""

    text: str | None
    image_id: str = Field(description="SHA-256 of the uploaded bytes, in hexadecimal")
    new_tokens: int
    finish_reason: FinishReason
    confidence: float | None = Field(description="probability that a caption is right; null where it is not known")
    needs_review: bool
    guards: list[str] = Field(description="options with which it was made again because it looped or was empty")


# BentoML's client knows a union by its first member, and drops what that has not.
_Result = Annotated[Answered | Error, AS_OBJECT]


class BatchAnswer(BaseModel):
    """Answer of /batch, in the order of the pictures."""

    results: list[_Result]

    @classmethod
    def of(cls, results: list[Answer | Blip2Error], min_confidence: float | None) -> "BatchAnswer":
        """The results as they are answered; captions that are too doubtful are not told."""
        return cls(results=[_entry(result, min_confidence) for result in results])


def _entry(result: Answer | Blip2Error, min_confidence: float | None) -> Answered | Error:
    if isinstance(result, Blip2Error):
        return Error.model_validate(error_body(result, BATCH_FIELDS))
    doubtful = needs_review(result.confidence, min_confidence)
    return Answered(
        text=None if doubtful else result.text,
        image_id=result.image_id,
        new_tokens=result.new_tokens,
        finish_reason=result.finish_reason,
        confidence=result.confidence,
        needs_review=doubtful,
        guards=list(result.guards),
    )
