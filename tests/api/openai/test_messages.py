"""Chat messages become a conversation; those that BLIP-2 cannot answer are refused."""

from typing import Any

import pytest

from blip2_serve.api.openai.messages import read_conversation
from blip2_serve.errors import InvalidField
from blip2_serve.families import DEFAULT_QUESTION
from blip2_serve.tasks.prompt import PromptSpec

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def user(*content: object) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def said(words: str, **more: object) -> dict[str, Any]:
    return {"role": "assistant", "content": words, **more}


def test_a_question_and_a_picture_are_a_chat() -> None:
    conversation = read_conversation([user(text(" what? "), PICTURE)])
    assert conversation.image == PICTURE["image_url"]["url"]  # type: ignore[index]
    assert conversation.asked("auto") == PromptSpec("chat", "what?", [])


@pytest.mark.parametrize("content", [[PICTURE], [PICTURE, text("")], [text(" \n"), PICTURE]])
def test_a_picture_without_text_asks_for_a_caption(content: list[object]) -> None:
    assert read_conversation([user(*content)]).asked("auto") == PromptSpec("caption")


@pytest.mark.parametrize("place", [0, 2, 4])
def test_the_picture_may_sit_in_any_turn(place: int) -> None:
    messages = [user(text("what?")), said("a cat"), user(text("where?")), said("here"), user(text("why?"))]
    messages[place]["content"].insert(0, PICTURE)
    assert read_conversation(messages).asked("auto") == PromptSpec(
        "chat", "why?", [("what?", "a cat"), ("where?", "here")]
    )


def test_an_earlier_picture_alone_was_asked_for_its_caption() -> None:
    conversation = read_conversation([user(PICTURE), said("a cat"), {"role": "user", "content": "why?"}])
    assert conversation.turns == [(DEFAULT_QUESTION, "a cat")]


def test_messages_of_a_user_in_a_row_are_one_question() -> None:
    conversation = read_conversation([user(PICTURE), user(text("what"), text("is it?")), user(text("really"))])
    assert (conversation.turns, conversation.text) == ([], "what is it? really")


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([user(PICTURE)] + [user(text("x" * 30_000))] * 2, "messages[2]"),
        ([user(PICTURE, text("x" * 30_000), text("x" * 30_000))], "messages[0].content"),
    ],
    ids=["messages", "parts"],
)
def test_what_is_joined_is_no_longer_than_one_text_may_be(messages: list[object], place: str) -> None:
    with pytest.raises(InvalidField, match="32768 characters") as refusal:
        read_conversation(messages)
    assert refusal.value.about == place


def test_an_answer_may_be_sent_back_as_openais_clients_do() -> None:
    empty = {"refusal": None, "annotations": [], "audio": None, "function_call": None, "tool_calls": None}
    conversation = read_conversation([user(PICTURE, text("what?")), said("a cat", **empty), user(text("why?"))])
    assert conversation.turns == [("what?", "a cat")]


@pytest.mark.parametrize("detail", ["auto", "low", None])
def test_a_detail_that_changes_nothing_is_taken(detail: str | None) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:,", "detail": detail}}
    assert read_conversation([user(part)]).image == "data:,"


QUESTION = user(PICTURE, text("what?"))
REFUSED = [
    ([], "messages", "user"),
    ([user(text("what?"))], "messages", "one picture and these hold 0"),
    ([user(PICTURE, PICTURE)], "messages", "one picture and these hold 2"),
    ([user(PICTURE), said("a cat"), user(PICTURE)], "messages", "one picture and these hold 2"),
    ([{"role": "system", "content": "be brief"}, QUESTION], "messages[0].role", "follow instructions"),
    ([{"role": "developer", "content": "be brief"}, QUESTION], "messages[0].role", "follow instructions"),
    ([QUESTION, {"role": "tool", "content": "42"}], "messages[1].role", "calls no tools"),
    ([{"role": "king", "content": "42"}], "messages[0].role", "user or assistant"),
    ([{"content": "42"}], "messages[0].role", "user or assistant"),
    ([{"role": ["user"], "content": "42"}], "messages[0].role", "user or assistant"),
    (["what?"], "messages[0]", "no object"),
    ([QUESTION, said("a cat")], "messages", "last one"),
    ([said("a cat"), QUESTION], "messages[0]", "no question"),
    ([QUESTION, said("a cat"), said("a dog"), user(text("why?"))], "messages[2]", "no question"),
    ([QUESTION, said(""), user(text("why?"))], "messages[1]", "empty"),
    ([QUESTION, said("a", tool_calls=[{"id": "1"}]), user(text("?"))], "messages[1].tool_calls", "nothing else"),
    ([{**QUESTION, "name": "Ada"}], "messages[0].name", "nothing else"),
    ([QUESTION, {"role": "assistant", "content": [PICTURE]}], "messages[1].content", "draws no pictures"),
    ([{"role": "user", "content": 42}], "messages[0].content", "list of parts"),
    ([user("what?")], "messages[0].content[0]", "no object"),
    ([user(PICTURE, {"type": "input_audio", "input_audio": {}})], "messages[0].content[1]", "hears nothing"),
    ([user(PICTURE, {"type": "file", "file": {}})], "messages[0].content[1]", "no files"),
    ([user(PICTURE, {"type": ["text"]})], "messages[0].content[1]", "a part is"),
    ([user({**PICTURE, "more": 1})], "messages[0].content[0]", "a part is"),
    ([user(PICTURE, {"type": "text", "text": 42})], "messages[0].content[1].text", "no text"),
    ([user(PICTURE, text("x" * 40_000))], "messages[0].content[1].text", "shorten"),
    ([user(PICTURE, text("\ud800"))], "messages[0].content[1].text", "surrogate"),
    ([user({"type": "image_url", "image_url": "data:,"})], "messages[0].content[0].image_url", "url"),
    (
        [user({"type": "image_url", "image_url": {"url": "data:,", "detail": "high"}})],
        "messages[0].content[0].image_url.detail",
        "one size",
    ),
    ([QUESTION] * 600, "messages", "too many"),
]


@pytest.mark.parametrize(("messages", "param", "words"), REFUSED)
def test_what_blip_2_cannot_do_is_refused_with_its_place(messages: list[object], param: str, words: str) -> None:
    with pytest.raises(InvalidField, match=words) as refused:
        read_conversation(messages)
    assert refused.value.about == param


def test_a_task_is_asked_by_name() -> None:
    asked = read_conversation([user(PICTURE, text("a photo of"))])
    assert asked.asked("vqa") == PromptSpec("vqa", "a photo of")
    assert asked.asked("prefix") == PromptSpec("prefix", "a photo of")
    assert read_conversation([user(PICTURE)]).asked("caption") == PromptSpec("caption")
    assert read_conversation([user(PICTURE)]).asked("vqa") == PromptSpec("vqa")


@pytest.mark.parametrize(
    ("messages", "task"),
    [
        ([QUESTION], "caption"),
        ([user(PICTURE)], "prefix"),
        ([QUESTION, said("a cat"), user(text("why?"))], "vqa"),
        ([QUESTION, said("a cat"), user(text("why?"))], "prefix"),
        ([QUESTION, said("a cat"), user()], "caption"),
        ([QUESTION, said("a cat"), user()], "auto"),
    ],
)
def test_a_task_has_no_place_for_what_it_would_ignore(messages: list[object], task: Any) -> None:
    with pytest.raises(InvalidField):
        read_conversation(messages).asked(task)
