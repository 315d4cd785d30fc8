"""LlamaIndex's OpenAILike, with an ImageBlock."""

import base64

import pytest
from llama_index.core.llms import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.llms.openai_like import OpenAILike

from support.demo import ANSWER, CAPTION, QUESTION, TURN


@pytest.fixture
def chat(url: str) -> OpenAILike:
    return OpenAILike(model="blip2", api_base=url, api_key="any", is_chat_model=True, max_retries=0)


def user(picture: str | bytes, text: str | None) -> ChatMessage:
    data = picture if isinstance(picture, bytes) else base64.b64decode(picture.partition(",")[2])
    return ChatMessage(role="user", blocks=[ImageBlock(image=data), *([TextBlock(text=text)] if text else [])])


def test_a_picture_alone_is_captioned(chat: OpenAILike, picture: str) -> None:
    assert chat.chat([user(picture, None)]).message.content == CAPTION


def test_a_question_is_answered_after_a_system_message(chat: OpenAILike, picture: str) -> None:
    system = ChatMessage(role=MessageRole.SYSTEM, content="Be brief.")
    assert chat.chat([system, user(picture, QUESTION)]).message.content == ANSWER


def test_an_answer_is_streamed(chat: OpenAILike, picture: str) -> None:
    assert "".join(piece.delta or "" for piece in chat.stream_chat([user(picture, None)])) == CAPTION


def test_a_second_picture_is_the_one_that_is_meant(chat: OpenAILike, picture: str, grey: bytes) -> None:
    first = user(grey, TURN[0])
    answer = chat.chat([first]).message
    assert chat.chat([first, answer, user(picture, TURN[0])]).message.content == TURN[1]
