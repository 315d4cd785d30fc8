"""The tab for captions, each with its probability."""

import re
from collections.abc import Sequence
from typing import Any

import gradio as gr

from blip2_serve.api.native.caption_several import CaptionSeveralFields
from blip2_serve.api.native.fields import validate_fields
from blip2_serve.options import MAX_NUM_BEAMS
from blip2_serve.tasks.scored.captions import ScoredCaption
from blip2_serve.tasks.verbs import Tasks
from blip2_serve.ui.events import EVENT, answering
from blip2_serve.ui.picture import upload_of
from blip2_serve.ui.tabs.decoding import decoding_controls, decoding_fields

# What Markdown would take for its own.
_MARKS = re.compile(r"[^\w\s.,'-]")


def caption_tab(picture: gr.Image, tasks: Tasks) -> None:
    """Add the tab's controls and their events."""

    async def caption(
        picture: object, begins: str | None, num_captions: int, rank_by: str, *decoding: Any
    ) -> tuple[dict[str, float], str]:
        with answering():
            values = {"txt": begins, "num_captions": num_captions, "rank_by": rank_by, **decoding_fields(*decoding)}
            fields = validate_fields(CaptionSeveralFields, {"img": await upload_of(picture), **values})
            options = fields.options(tasks.family)
            made = await tasks.caption_several(fields.image, fields.txt, fields.num_captions, options, fields.rank_by)
            said = "\n\n".join(filter(None, (_guards_said(made.captions), _matches_said(made.captions))))
            return {caption.text or "(empty)": caption.probability for caption in made.captions}, said

    begins = gr.Textbox(label="Begins with", placeholder="nothing in particular", elem_id="begins")
    number = gr.Slider(1, MAX_NUM_BEAMS, 1, step=1, label="Captions", elem_id="num-captions")
    rank_by = gr.Radio(
        [("probability", "likelihood"), ("how well it matches the picture", "itm")],
        value="likelihood",
        label="Best first by",
        elem_id="rank-by",
        visible=tasks.matches,
    )
    button = gr.Button("Caption", variant="primary", elem_id="caption")
    bars = gr.Label(label="Captions, with the probability of an average token", show_heading=False, elem_id="captions")
    guards = gr.Markdown(elem_id="guards")
    controls = decoding_controls(tasks.family)
    gr.on(
        [button.click, begins.submit], caption, [picture, begins, number, rank_by, *controls], [bars, guards], **EVENT
    )


def _guards_said(captions: Sequence[ScoredCaption]) -> str:
    acted = sorted({guard for caption in captions for guard in caption.guards})
    if not acted:
        return ""
    return f"A caption was empty or repeated itself, and was made again with {' and '.join(f'`{it}`' for it in acted)}."


def _matches_said(captions: Sequence[ScoredCaption]) -> str:
    """List how well each caption matches, in the order of the captions; empty without a matching model."""
    lines = [
        f"- {_MARKS.sub(' ', caption.text) or '(empty)'}: {caption.itm:.1%}, cosine {caption.itc:.2f}"
        for caption in captions
        if caption.itm is not None and caption.itc is not None
    ]
    return "\n".join(["Matching:", *lines]) if lines else ""
