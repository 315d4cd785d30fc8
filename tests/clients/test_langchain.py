"""LangChain's ChatOpenAI, with its own defaults."""

import base64

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from support.demo import ANSWER, CAPTION, QUESTION, TURN


@pytest.fixture
def chat(url: str) -> ChatOpenAI:
    return ChatOpenAI(model="blip2", base_url=url, api_key="any", max_retries=0)  # type: ignore[arg-type]


def user(picture: str, text: str | None) -> HumanMessage:
    parts = [{"type": "image_url", "image_url": {"url": picture}}]
    return HumanMessage([*parts, *([{"type": "text", "text": text}] if text else [])])


def test_a_picture_alone_is_captioned(chat: ChatOpenAI, picture: str) -> None:
    assert chat.invoke([user(picture, None)]).content == CAPTION


def test_a_question_is_answered_after_a_system_message(chat: ChatOpenAI, picture: str) -> None:
    assert chat.invoke([SystemMessage("Be brief."), user(picture, QUESTION)]).content == ANSWER


def test_a_picture_in_langchains_own_format_is_seen(chat: ChatOpenAI, picture: str) -> None:
    parts = [{"type": "image", "base64": picture.partition(",")[2], "mime_type": "image/jpeg"}]
    assert chat.invoke([HumanMessage(content_blocks=parts)]).content == CAPTION  # type: ignore[call-overload]


def test_an_answer_is_streamed(chat: ChatOpenAI, picture: str) -> None:
    chunks = list(chat.stream([user(picture, None)]))
    assert "".join(str(chunk.content) for chunk in chunks) == CAPTION
    assert len(chunks) > len(CAPTION.split())


def test_a_second_picture_is_the_one_that_is_meant(chat: ChatOpenAI, picture: str, grey: bytes) -> None:
    first = user(f"data:image/png;base64,{base64.b64encode(grey).decode()}", TURN[0])
    said = chat.invoke([first, AIMessage("nothing"), user(picture, TURN[0])])
    assert said.content == TURN[1]


def test_a_response_is_asked_for_and_streamed(url: str, picture: str) -> None:
    chat = ChatOpenAI(model="blip2", base_url=url, api_key="any", use_responses_api=True)  # type: ignore[arg-type]
    assert chat.invoke([user(picture, QUESTION)]).text == ANSWER
    assert "".join(chunk.text for chunk in chat.stream([user(picture, None)])) == CAPTION
