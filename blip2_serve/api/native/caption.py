"""POST /generate: a caption."""

from typing import ClassVar

from pydantic import Field

from blip2_serve.api.native.fields import MAX_TEXT_CHARACTERS, Example, ImageFields


class CaptionFields(ImageFields):
    """A picture to caption; `txt` is how the caption begins."""

    path: ClassVar[str] = "/generate"
    example: ClassVar[Example] = Example(
        {"txt": "a yellow star to the left of"},
        "a yellow star to the left of a red diamond on a blue background",
    )
    tells: ClassVar[frozenset[str]] = frozenset({"image", "model", "text"})

    txt: str | None = Field(None, max_length=MAX_TEXT_CHARACTERS, description="how the caption begins")
