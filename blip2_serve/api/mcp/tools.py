"""The tools: what each is for, its arguments, and the verb that it calls."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from blip2_serve.api.mcp.arguments import (
    AskArguments,
    CaptionArguments,
    ChatArguments,
    ChoicesAnswer,
    ChooseArguments,
    PictureArguments,
    TextAnswer,
)
from blip2_serve.api.native.ask import AskFields
from blip2_serve.api.native.caption import CaptionFields
from blip2_serve.api.native.chat import ChatFields
from blip2_serve.api.native.fields import DecodingFields, validate_fields
from blip2_serve.images import ImageSource
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.completion import OutputOptions
from blip2_serve.tasks.verbs import Tasks


@dataclass(frozen=True, slots=True)
class PictureTool:
    """A tool; `run` gets its arguments validated, and the picture beside them."""

    title: str
    description: str
    arguments: type[PictureArguments]
    answer: type[BaseModel]
    run: Callable[[Tasks, ImageSource, Any], Awaitable[BaseModel]]


def _options(fields: type[DecodingFields], asked: CaptionArguments | AskArguments, tasks: Tasks) -> DecodingOptions:
    """Fill in the defaults of the endpoint with these fields."""
    return validate_fields(fields, {"max_new_tokens": asked.max_new_tokens}).options(tasks.family)


def _output(asked: CaptionArguments | AskArguments) -> OutputOptions:
    return OutputOptions(guards=asked.guards)


async def _caption(tasks: Tasks, image: ImageSource, asked: CaptionArguments) -> TextAnswer:
    options = _options(CaptionFields, asked, tasks)
    return TextAnswer.of(await tasks.caption(image, asked.prefix or None, options, _output(asked)))


async def _ask(tasks: Tasks, image: ImageSource, asked: AskArguments) -> TextAnswer:
    options = _options(AskFields, asked, tasks)
    return TextAnswer.of(await tasks.ask(image, asked.question or None, options, _output(asked)))


async def _choose(tasks: Tasks, image: ImageSource, asked: ChooseArguments) -> ChoicesAnswer:
    ranked = await tasks.choose(image, asked.question or None, asked.choices)
    return ChoicesAnswer(choices=ranked.choices, image_id=ranked.image_id)


async def _chat(tasks: Tasks, image: ImageSource, asked: ChatArguments) -> TextAnswer:
    options = _options(ChatFields, asked, tasks)
    return TextAnswer.of(await tasks.chat(image, asked.question or None, asked.turns, options, _output(asked)))


TOOLS = {
    "caption": PictureTool(
        "Caption a picture",
        "Say in one sentence what a picture shows.",
        CaptionArguments,
        TextAnswer,
        _caption,
    ),
    "ask": PictureTool(
        "Ask about a picture",
        "Answer one short question about a picture, in a few words.",
        AskArguments,
        TextAnswer,
        _ask,
    ),
    "choose": PictureTool(
        "Choose among answers",
        "Say how probable each of the given answers to a question about a picture is.",
        ChooseArguments,
        ChoicesAnswer,
        _choose,
    ),
    "chat": PictureTool(
        "Go on asking about a picture",
        "Answer a question about a picture that refers to earlier questions and answers.",
        ChatArguments,
        TextAnswer,
        _chat,
    ),
}
