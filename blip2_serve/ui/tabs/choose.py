"""The tab for a question and the answers to choose from."""

import gradio as gr

from blip2_serve.api.native.choose import ChooseFields
from blip2_serve.api.native.fields import validate_fields
from blip2_serve.families import DEFAULT_QUESTION
from blip2_serve.tasks.verbs import Tasks
from blip2_serve.ui.events import EVENT, answering
from blip2_serve.ui.picture import upload_of


def choose_tab(picture: gr.Image, tasks: Tasks) -> None:
    """Add the tab's controls and their events."""

    async def choose(picture: object, question: object, choices: object) -> dict[str, float]:
        with answering():
            values: dict[str, object] = {
                "img": await upload_of(picture),
                "txt": question,
                "choices": choices_of(choices) if isinstance(choices, str) else [],
            }
            fields = validate_fields(ChooseFields, values)
            ranked = await tasks.choose(fields.image, fields.txt, fields.choices, fields.normalize)
            return {choice.text: choice.probability for choice in ranked.choices}

    question = gr.Textbox(label="Question", placeholder=DEFAULT_QUESTION, elem_id="closed-question")
    choices = gr.Textbox("yes, no", label="Choices", info="one a line, or with commas", lines=3, elem_id="choices")
    button = gr.Button("Choose", variant="primary", elem_id="choose")
    bars = gr.Label(label="Probabilities", elem_id="chosen")
    gr.on([button.click, question.submit], choose, [picture, question, choices], [bars], **EVENT)


def choices_of(text: str) -> list[str]:
    """Split `text` into choices: at line ends, or at commas if it is a single line. Empty choices are dropped."""
    lines = text.strip().splitlines()
    parts = lines if len(lines) > 1 else text.split(",")
    return [part.strip() for part in parts if part.strip()]
