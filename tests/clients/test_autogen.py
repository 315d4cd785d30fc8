"""AutoGen's OpenAIChatCompletionClient, with an Image."""

import asyncio
import base64
import io
from collections.abc import Sequence
from typing import Any

from autogen_core import Image
from autogen_core.models import AssistantMessage, CreateResult, LLMMessage, ModelFamily, SystemMessage, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from PIL import Image as PillowImage

from support.demo import ANSWER, CAPTION, QUESTION, TURN


def client(url: str) -> OpenAIChatCompletionClient:
    told: Any = {
        "vision": True,
        "function_calling": False,
        "json_output": False,
        "structured_output": False,
        "family": ModelFamily.UNKNOWN,
    }
    return OpenAIChatCompletionClient(model="blip2", base_url=url, api_key="any", model_info=told, max_retries=0)


def user(picture: str | bytes, text: str | None) -> UserMessage:
    data = picture if isinstance(picture, bytes) else base64.b64decode(picture.partition(",")[2])
    image = Image.from_pil(PillowImage.open(io.BytesIO(data)))
    return UserMessage(content=[*([text] if text else []), image], source="user")


def ask(url: str, messages: Sequence[LLMMessage]) -> object:
    async def answer() -> object:
        asked = client(url)
        try:
            return (await asked.create(messages)).content
        finally:
            await asked.close()

    return asyncio.run(answer())


def test_a_picture_alone_is_captioned(url: str, picture: str) -> None:
    assert ask(url, [user(picture, None)]) == CAPTION


def test_a_question_is_answered_after_a_system_message(url: str, picture: str) -> None:
    assert ask(url, [SystemMessage(content="Be brief."), user(picture, QUESTION)]) == ANSWER


def test_a_second_picture_is_the_one_that_is_meant(url: str, picture: str, grey: bytes) -> None:
    said = AssistantMessage(content="nothing", source="assistant")
    assert ask(url, [user(grey, TURN[0]), said, user(picture, TURN[0])]) == TURN[1]


def test_an_answer_is_streamed(url: str, picture: str) -> None:
    async def pieces() -> list[str | CreateResult]:
        asked = client(url)
        try:
            return [piece async for piece in asked.create_stream([user(picture, None)])]
        finally:
            await asked.close()

    *texts, whole = asyncio.run(pieces())
    assert "".join(map(str, texts)) == CAPTION
    assert isinstance(whole, CreateResult)
    assert whole.content == CAPTION
