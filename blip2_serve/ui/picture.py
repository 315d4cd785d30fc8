"""The picture that all tabs share, and the reading of its bytes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from blip2_serve.errors import InvalidField, InvalidImage, Part
from blip2_serve.images import Upload
from blip2_serve.ui.events import EVENT, answering


def picture_input(examples: Sequence[Path]) -> gr.Image:
    """Add an input to drop, paste, choose or take a picture, with examples below."""
    picture = gr.Image(
        label="Picture",
        type="filepath",
        sources=["upload", "clipboard", "webcam"],
        height=320,
        buttons=[],
        elem_id="picture",
    )
    samples = gr.Dataset(
        label="Examples",
        components=[picture],
        samples=[[str(path)] for path in examples],
        type="index",
        elem_id="examples",
    )

    def show(index: object) -> str:
        with answering():
            if not isinstance(index, int) or not 0 <= index < len(examples):
                raise InvalidField("There is no such example: choose another.")
            return str(examples[index])

    samples.click(show, [samples], [picture], **EVENT)
    return picture


async def upload_of(picture: object) -> Upload:
    """Read the picture's bytes as sent: gradio decodes nothing, and the usual limits apply later.

    Raises:
        InvalidImage: no picture was chosen, or it is no longer kept.
    """
    path = picture.get("path") if isinstance(picture, dict) else None
    if not isinstance(path, str):
        raise InvalidImage("There is no picture: drop, paste, choose or take one first.", about=Part.IMAGE)
    try:
        return Upload(await asyncio.to_thread(Path(path).read_bytes))
    except FileNotFoundError:
        raise InvalidImage("The picture is no longer here: choose it again.", about=Part.IMAGE) from None
