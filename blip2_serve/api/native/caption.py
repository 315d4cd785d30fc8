"""POST /generate: a caption."""

from typing import ClassVar

from pydantic import Field

from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, Example, ImageFields
from blip2_serve.errors import InvalidField
from blip2_serve.tasks.completion import OutputOptions

RETURN_FULL_TEXT = "begin the caption with txt, which a Flan-T5 never does; default true"
MIN_CONFIDENCE = "leave out a caption that is right with less probability: no text, and needs_review; 0 to 1"


class CaptionFields(ImageFields):
    """A picture to caption; `txt` is how the caption begins."""

    path: ClassVar[str] = "/generate"
    example: ClassVar[Example] = Example(
        {"txt": "a yellow star to the left of"},
        "a yellow star to the left of a red diamond on a blue background",
    )
    tells: ClassVar[frozenset[str]] = frozenset({"image", "model", "text", "confidence"})

    txt: str | None = Field(None, max_length=MAX_TEXT_CHARACTERS, description="how the caption begins")
    min_confidence: float | None = Field(None, ge=0, le=1, description=MIN_CONFIDENCE)
    return_full_text: bool = Field(True, description=RETURN_FULL_TEXT)

    @property
    def output(self) -> OutputOptions:
        """Guard the caption and begin it with its prefix, where it is asked for."""
        return OutputOptions(guards=self.guards, echoes=self.return_full_text)


def check_measured(min_confidence: float | None, *, measured: bool) -> None:
    """Refuse `min_confidence`, before any work, where nobody has measured how often such captions are right.

    Raises:
        InvalidField: it is asked for and cannot be had.
    """
    if min_confidence is not None and not measured:
        raise InvalidField(
            "min_confidence needs a calibrated model, and captions without txt alone are: make a BLIP2_CONFIDENCE_FILE"
            " with `blip2-serve calibrate`, or leave it out.",
            about="min_confidence",
        )


def needs_review(confidence: float | None, min_confidence: float | None) -> bool:
    """True if a caption is too doubtful to be told."""
    return confidence is not None and min_confidence is not None and confidence < min_confidence
