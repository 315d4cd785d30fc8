"""The tab for a conversation about the picture; answers stream in, and a new picture starts over."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import gradio as gr

from blip2_serve.api.native.chat import ChatFields
from blip2_serve.api.native.fields import validate_fields
from blip2_serve.errors import InvalidField
from blip2_serve.families import DEFAULT_QUESTION, Turn
from blip2_serve.tasks.completion import CompletionPiece, OutputOptions
from blip2_serve.tasks.prompt import PromptSpec
from blip2_serve.tasks.verbs import Tasks
from blip2_serve.ui.events import EVENT, answering
from blip2_serve.ui.picture import upload_of

Messages = list[dict[str, Any]]


def chat_tab(picture: gr.Image, tasks: Tasks) -> None:
    """Add the tab's controls and their events."""

    async def chat(
        picture: object, question: str | None, history: Messages | None
    ) -> AsyncIterator[tuple[Messages, str, str]]:
        with answering():
            turns = turns_of(history or [])
            values: dict[str, object] = {
                "img": await upload_of(picture),
                "txt": question,
                "context": turns,
                "num_beams": 1,
            }
            fields = validate_fields(ChatFields, values)
            ask = PromptSpec("chat", fields.txt, fields.context or ())
            stream = await tasks.stream(fields.image, ask, fields.options(tasks.family), OutputOptions())
            said, answer = _messages([*turns, (fields.txt or DEFAULT_QUESTION, "")]), ""
            async with aclosing(stream):
                async for part in stream:
                    answer += part.text if isinstance(part, CompletionPiece) else ""
                    said[-1]["content"] = answer
                    yield said, "", _dropped_said(stream.dropped_turns)

    history = gr.Chatbot(
        label="Conversation", render_markdown=False, feedback_options=None, buttons=[], height=320, elem_id="history"
    )
    dropped = gr.Markdown(elem_id="dropped")
    question = gr.Textbox(label="Question", placeholder=DEFAULT_QUESTION, elem_id="chat-question")
    with gr.Row():
        button = gr.Button("Send", variant="primary", elem_id="send")
        clear = gr.Button("Clear", elem_id="clear")
    outputs = [history, question, dropped]
    sent = gr.on([button.click, question.submit], chat, [picture, question, history], outputs, **EVENT)
    gr.on([clear.click, picture.change], _nothing, None, outputs, cancels=[sent], **EVENT)


def turns_of(history: Messages) -> list[Turn]:
    """Convert gradio's messages to (question, answer) turns.

    Raises:
        InvalidField: the messages are not pairs of texts.
    """
    try:
        texts = [_text(message["content"]) for message in history]
        return list(zip(texts[::2], texts[1::2], strict=True))
    except (KeyError, TypeError, ValueError):
        raise InvalidField("The conversation cannot be read: clear it.", about="context") from None


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _messages(turns: list[Turn]) -> Messages:
    pairs = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in turns]
    return [message for pair in pairs for message in pair]


def _nothing() -> tuple[Messages, str, str]:
    return [], "", ""


def _dropped_said(num_turns: int | None) -> str:
    return f"The oldest turns no longer fit: {num_turns} left out." if num_turns else ""
