"""The tab for one question and one answer."""

import gradio as gr

from blip2_serve.api.native.ask import AskFields
from blip2_serve.api.native.fields import validate_fields
from blip2_serve.families import DEFAULT_QUESTION
from blip2_serve.tasks.verbs import Tasks
from blip2_serve.ui.events import EVENT, answering
from blip2_serve.ui.picture import upload_of


def ask_tab(picture: gr.Image, tasks: Tasks) -> None:
    """Add the tab's controls and their events."""

    async def ask(picture: object, question: str | None) -> str:
        with answering():
            fields = validate_fields(AskFields, {"img": await upload_of(picture), "txt": question})
            return (await tasks.ask(fields.image, fields.txt, fields.options(tasks.family))).text

    question = gr.Textbox(label="Question", placeholder=DEFAULT_QUESTION, elem_id="question")
    button = gr.Button("Ask", variant="primary", elem_id="ask")
    answer = gr.Textbox(label="Answer", interactive=False, elem_id="answer")
    gr.on([button.click, question.submit], ask, [picture, question], [answer], **EVENT)
