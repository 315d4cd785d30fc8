"""POST /captions: several captions, each with what it is worth."""

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, Field

from blip2_serve.api.native.answers import AS_OBJECT
from blip2_serve.api.native.caption import CaptionFields, needs_review
from blip2_serve.api.native.fields import Example
from blip2_serve.options import MAX_NUM_BEAMS, FinishReason
from blip2_serve.tasks.grounding.explain import WordSupport
from blip2_serve.tasks.scored.captions import ScoredCaption
from blip2_serve.tasks.verbs import RankBy


class CaptionSeveralFields(CaptionFields):
    """A picture to caption several times; `txt` is how each caption begins."""

    path: ClassVar[str] = "/captions"
    example: ClassVar[Example] = Example(
        {"num_captions": 1, "num_beams": 5},
        {
            "captions": [
                {
                    "text": "a yellow star to the left of a red diamond on a blue background",
                    "needs_review": False,
                    "confidence": 0.99,
                    "score": 0.0,
                    "probability": 1.0,
                    "num_tokens": 15,
                    "finish_reason": "stop",
                    "guards": [],
                    "itm": 0.99,
                    "itc": 0.9,
                    "words": None,
                    "unsupported": None,
                }
            ]
        },
    )
    tells: ClassVar[frozenset[str]] = frozenset({"image", "model"})

    num_captions: int = Field(
        5, ge=1, le=MAX_NUM_BEAMS, description="most captions, 1 to 16; num_beams rises to it; default 5"
    )
    rank_by: RankBy = Field(
        "likelihood", description="best first by likelihood, or by itm, how well each matches; default likelihood"
    )
    guards: bool = Field(True, description="make captions again that loop or are empty; default true")
    explain: bool = Field(False, description="tell for each word how much likelier the picture makes it; default false")


class Captioned(BaseModel):
    """A caption with what it is worth; `text` is null where `needs_review`."""

    text: str | None
    needs_review: bool
    confidence: float | None
    score: float
    probability: float
    num_tokens: int
    finish_reason: FinishReason
    guards: list[str]
    itm: float | None
    itc: float | None
    words: list[WordSupport] | None
    unsupported: list[str] | None

    @classmethod
    def of(cls, caption: ScoredCaption, asked: CaptionFields) -> Self:
        """Convert one caption; one that is too doubtful is not told."""
        doubtful = needs_review(caption.confidence, asked.min_confidence)
        told = {name: getattr(caption, name) for name in cls.model_fields if name != "needs_review"}
        if not asked.return_full_text:
            told["text"] = caption.continuation
        if doubtful:
            told |= {"text": None, "words": None, "unsupported": None}
        return cls(**told, needs_review=doubtful)


class CaptionSeveralAnswer(BaseModel):
    """Answer of /captions, best first."""

    captions: list[Annotated[Captioned, AS_OBJECT]]


# BentoML names the schema by the class; this is its published name, by which clients have generated code.
CaptionSeveralAnswer.__name__ = "CaptionsAnswer"
