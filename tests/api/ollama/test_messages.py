"""The picture and the question in what Ollama's clients send."""

from typing import Any

import pytest

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.ollama.messages import Asked, asked_in_chat, asked_to_generate
from blip2_serve.api.ollama.request import ChatRequest, GenerateRequest
from blip2_serve.errors import InvalidField
from blip2_serve.tasks.prompt import PromptSpec


def generate(**values: Any) -> Asked | None:
    return asked_to_generate(GenerateRequest(model="blip2", **values), Ignored())


def chat(*messages: Any, ignored: Ignored | None = None) -> Asked | None:
    return asked_in_chat(ChatRequest(model="blip2", messages=list(messages)), ignored or Ignored())


def user(content: str | None, *images: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content, "images": list(images)}


def test_a_prompt_is_a_question_none_asks_for_a_caption_and_a_raw_one_is_continued() -> None:
    assert generate(prompt="what?", images=["AA"]) == Asked("AA", PromptSpec("chat", "what?"))
    assert generate(prompt=" ", images=["AA"]) == Asked("AA", PromptSpec("caption"))
    assert generate(prompt="a photo of", images=["AA"], raw=True) == Asked(
        "AA", PromptSpec("prefix", "a photo of", echoes=False)
    )


def test_nothing_at_all_asks_for_nothing_but_the_model() -> None:
    assert generate() is None
    assert chat() is None


def test_a_chat_is_read_as_a_conversation_about_its_last_picture() -> None:
    ignored = Ignored()
    said = [
        user("Be brief.", role="system"),
        user("what is this?", "AA"),
        {"role": "assistant", "content": "a cat", "thinking": "hm", "tool_calls": []},
        user("and this?", "BB", role="USER"),
        {"role": "assistant", "content": "a dog"},
        {"role": "user", "content": "what color?"},
    ]
    asked = chat(*said, ignored=ignored)
    assert asked == Asked("BB", PromptSpec("chat", "what color?", [("and this?", "a dog")]), dropped_turns=1)
    assert ignored.headers == {"X-Ignored": "system, messages[].thinking"}


def test_a_picture_without_words_in_a_chat_is_captioned() -> None:
    assert chat(user(None, "AA")) == Asked("AA", PromptSpec("caption"))


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([user("hi")], "messages"),
        ([user("hi", "AA", "BB")], "messages[0]"),
        ([user("hi", 3)], "messages[0].images"),
        ([{"role": "user", "images": "AA"}], "messages[0].images"),
        ([user("hi", "AA"), "hi"], "messages[1]"),
        ([user("hi", "AA", role="oracle")], "messages[0].role"),
        ([user("hi", "AA"), user("hello", role="assistant")], "messages"),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_place(messages: list[Any], place: str) -> None:
    with pytest.raises(InvalidField) as refused:
        chat(*messages)
    assert refused.value.about == place


@pytest.mark.parametrize("images", [[], ["AA", "BB"], [3]])
def test_generate_takes_one_picture(images: list[Any]) -> None:
    with pytest.raises(InvalidField) as refused:
        generate(prompt="hi", images=images)
    assert refused.value.about == "images"
