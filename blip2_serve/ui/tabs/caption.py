"""The tab for captions, each with its probability."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from blip2_serve.api.native.caption_several import CaptionSeveralFields
from blip2_serve.api.native.fields import validate_fields
from blip2_serve.options import MAX_NUM_BEAMS
from blip2_serve.tasks.caption import ScoredCaption
from blip2_serve.tasks.verbs import Tasks
from blip2_serve.ui.events import EVENT, answering
from blip2_serve.ui.picture import upload_of
from blip2_serve.ui.tabs.decoding import decoding_controls, decoding_fields


def caption_tab(picture: gr.Image, tasks: Tasks) -> None:
    """Add the tab's controls and their events."""

    async def caption(
        picture: object, begins: str | None, num_captions: int, *decoding: Any
    ) -> tuple[dict[str, float], str]:
        with answering():
            values: dict[str, object] = {"img": await upload_of(picture), "txt": begins, "num_captions": num_captions}
            fields = validate_fields(CaptionSeveralFields, {**values, **decoding_fields(*decoding)})
            options = fields.options(tasks.family)
            captions = (await tasks.caption_several(fields.image, fields.txt, fields.num_captions, options)).captions
            return {caption.text or "(empty)": caption.probability for caption in captions}, _guards_said(captions)

    begins = gr.Textbox(label="Begins with", placeholder="nothing in particular", elem_id="begins")
    number = gr.Slider(1, MAX_NUM_BEAMS, 1, step=1, label="Captions", elem_id="num-captions")
    button = gr.Button("Caption", variant="primary", elem_id="caption")
    bars = gr.Label(label="Captions, with the probability of an average token", show_heading=False, elem_id="captions")
    guards = gr.Markdown(elem_id="guards")
    controls = decoding_controls(tasks.family)
    gr.on([button.click, begins.submit], caption, [picture, begins, number, *controls], [bars, guards], **EVENT)


def _guards_said(captions: Sequence[ScoredCaption]) -> str:
    acted = sorted({guard for caption in captions for guard in caption.guards})
    if not acted:
        return ""
    return f"A caption was empty or repeated itself, and was made again with {' and '.join(f'`{it}`' for it in acted)}."
