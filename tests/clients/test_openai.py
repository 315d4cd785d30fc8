"""OpenAI's own client, second generation: chats, responses and completions."""

import base64
from typing import Any

import openai
import pytest

from support.demo import ANSWER, CAPTION, PREFIX, QUESTION, TURN


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="any", max_retries=0)


def user(picture: str, text: str | None) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": picture}}]
    return {"role": "user", "content": [*parts, *([{"type": "text", "text": text}] if text else [])]}


def chat(client: openai.OpenAI, *messages: Any, **options: Any) -> Any:
    return client.chat.completions.create(model="blip2", messages=messages, **options)


def test_it_is_the_second_generation() -> None:
    assert openai.__version__.startswith("2.")


def test_a_picture_alone_is_captioned(client: openai.OpenAI, picture: str) -> None:
    assert chat(client, user(picture, None)).choices[0].message.content == CAPTION


def test_a_question_is_answered_after_a_system_message(client: openai.OpenAI, picture: str) -> None:
    said = chat(client, {"role": "system", "content": "Be brief."}, user(picture, QUESTION))
    assert said.choices[0].message.content == ANSWER


def test_an_answer_is_streamed(client: openai.OpenAI, picture: str) -> None:
    chunks = chat(client, user(picture, None), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == CAPTION


def test_a_second_picture_is_the_one_that_is_meant(client: openai.OpenAI, picture: str, grey: bytes) -> None:
    first = user(f"data:image/png;base64,{base64.b64encode(grey).decode()}", TURN[0])
    answer = chat(client, first).choices[0].message
    assert chat(client, first, answer, user(picture, TURN[0])).choices[0].message.content == TURN[1]


def test_a_response_is_streamed(client: openai.OpenAI, picture: str) -> None:
    content = [
        {"type": "input_image", "image_url": picture, "detail": "auto"},
        {"type": "input_text", "text": QUESTION},
    ]
    asked: Any = [{"role": "user", "content": content}]
    with client.responses.stream(model="blip2", input=asked, instructions="Be brief.") as events:
        assert events.get_final_response().output_text == ANSWER


def test_a_text_is_continued(client: openai.OpenAI, picture: str) -> None:
    said = client.completions.create(model="blip2", prompt=PREFIX, extra_body={"image": picture})
    assert PREFIX + said.choices[0].text == CAPTION
