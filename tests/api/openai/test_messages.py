"""Chat messages become a conversation; what BLIP-2 cannot follow is left out and named, or refused."""

import json
from typing import Any

import pytest

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai.messages import Conversation
from blip2_serve.api.openai.messages import read_conversation as read_messages
from blip2_serve.errors import InvalidField
from blip2_serve.families import DEFAULT_QUESTION
from blip2_serve.tasks.prompt import PromptSpec

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def read_conversation(messages: list[Any], ignored: Ignored | None = None) -> Conversation:
    return read_messages(messages, ignored or Ignored())


def read_lenient(messages: list[Any]) -> tuple[Conversation, list[str]]:
    """Return the conversation, and the names of what was left out."""
    ignored = Ignored()
    conversation = read_messages(messages, ignored)
    return conversation, [name for name in ignored.headers.get("X-Ignored", "").split(", ") if name]


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def user(*content: object) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def said(words: str, **more: object) -> dict[str, Any]:
    return {"role": "assistant", "content": words, **more}


def test_a_question_and_a_picture_are_a_chat() -> None:
    conversation = read_conversation([user(text(" what? "), PICTURE)])
    assert conversation.image == PICTURE["image_url"]["url"]  # type: ignore[index]
    assert conversation.asked("auto") == PromptSpec("chat", " what? ", [])


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


QUESTION = user(PICTURE, text("what?"))
FOLLOW_UP = user(text("why?"))
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
LEFT_OUT = [
    ([{"role": "system", "content": "be brief" * 9999}, QUESTION], ["system"]),
    ([{"role": "developer", "content": [text("be brief")]}, QUESTION], ["developer"]),
    ([QUESTION, {"role": "tool", "content": "42", "tool_call_id": "1"}], ["tool"]),
    ([said("hello, how can I help?"), QUESTION], ["messages[0]"]),
    ([{**QUESTION, "name": "Ada", "cache_control": {}}], ["messages[].name", "messages[].cache_control"]),
    ([user({**PICTURE, "cache_control": {}}, text("what?"))], ["messages[].content[].cache_control"]),
    (
        [user({"type": "image_url", "image_url": {"url": "data:,", "detail": "high"}}, text("what?"))],
        DETAIL := ["messages[].content[].image_url.detail"],
    ),
    ([user({"type": "image_url", "image_url": {"url": "data:,", "detail": "auto"}}, text("what?"))], DETAIL),
    ([QUESTION, said("", tool_calls=[CALL]), FOLLOW_UP], ["messages[].tool_calls", "messages[].content"]),
]


@pytest.mark.parametrize(("messages", "names"), LEFT_OUT)
def test_what_clients_send_by_habit_is_left_out_and_named(messages: list[Any], names: list[str]) -> None:
    conversation, ignored = read_lenient(messages)
    assert ignored == names
    assert conversation.text in ("what?", "what? why?")
    assert conversation.turns == []


@pytest.mark.parametrize(
    "messages", [messages for messages, _ in LEFT_OUT if '"detail": "auto"' not in json.dumps(messages)]
)
def test_a_strict_server_refuses_it_instead(messages: list[Any]) -> None:
    with pytest.raises(InvalidField):
        read_conversation(messages, Ignored(strict=True))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": "data:,"},
        {"type": "input_image", "image_url": "data:,"},
        {"image_url": {"url": "data:,"}},
    ],
)
def test_the_url_of_a_picture_may_be_written_in_other_ways(part: dict[str, Any]) -> None:
    conversation, ignored = read_lenient([user(part, "what", {"type": "input_text", "text": "is it?"})])
    assert (conversation.image, conversation.text, ignored) == ("data:,", "what is it?", [])


def picture(name: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"image-id:{name}"}}


def test_of_pictures_in_several_turns_the_last_is_meant() -> None:
    messages = [
        user(picture("a"), text("what?")),
        said("a cat"),
        user(text("sure?")),
        said("yes"),
        user(picture("b"), text("and this?")),
        said("a dog"),
        user(text("why?")),
    ]
    conversation, ignored = read_lenient(messages)
    assert (conversation.image, conversation.turns) == ("image-id:b", [("and this?", "a dog")])
    assert (conversation.text, conversation.dropped_turns, ignored) == ("why?", 2, [])
    with pytest.raises(InvalidField, match="one picture"):
        read_conversation(messages, Ignored(strict=True))


def test_a_new_picture_alone_is_captioned_and_the_turns_before_it_are_dropped() -> None:
    conversation, _ = read_lenient([user(picture("a"), text("what?")), said("a cat"), user(picture("b"))])
    assert (conversation.asked("auto"), conversation.dropped_turns) == (PromptSpec("caption"), 1)


def test_a_question_before_its_picture_belongs_to_it() -> None:
    messages = [user(picture("a"), text("what?")), said("a cat"), user(text("which color?")), user(picture("b"))]
    conversation, _ = read_lenient(messages)
    assert (conversation.image, conversation.text, conversation.dropped_turns) == ("image-id:b", "which color?", 1)


def test_a_prefix_in_a_message_of_its_own_keeps_its_spaces() -> None:
    conversation, _ = read_lenient([user(PICTURE), user(text("a cat on "))])
    assert conversation.asked("prefix") == PromptSpec("prefix", "a cat on ")


def test_what_answers_tell_beside_their_text_is_taken_back() -> None:
    answer = {"type": "output_text", "text": "a cat", "annotations": [], "logprobs": [{"token": "a"}]}
    messages = [
        QUESTION,
        {"role": "assistant", "content": [answer]},
        user({"type": "text", "text": None}, text("why?")),
    ]
    conversation = read_conversation(messages, Ignored(strict=True))
    assert conversation.turns == [("what?", "a cat")]


def test_a_detail_that_asks_for_nothing_is_named_and_never_refused() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:,", "detail": "low"}}
    ignored = Ignored(strict=True)
    read_conversation([user(part)], ignored)
    assert ignored.headers == {"X-Ignored": DETAIL[0]}


def test_turns_before_the_only_picture_stay() -> None:
    conversation, _ = read_lenient([user(text("hi")), said("hello"), user(PICTURE)])
    assert conversation.asked("auto") == PromptSpec("chat", None, [("hi", "hello")])
    assert conversation.dropped_turns == 0


REFUSED = [
    ([], "messages", "user"),
    ([user(text("what?"))], "messages", "there is none"),
    ([user(PICTURE, PICTURE)], "messages[0]", "one picture and this message holds 2"),
    ([user(PICTURE), said("a cat"), user(PICTURE, PICTURE)], "messages[2]", "this message holds 2"),
    ([{"role": "king", "content": "42"}], "messages[0].role", "user or assistant"),
    ([{"content": "42"}], "messages[0].role", "user or assistant"),
    ([{"role": ["user"], "content": "42"}], "messages[0].role", "user or assistant"),
    (["what?"], "messages[0]", "no object"),
    ([QUESTION, said("a cat")], "messages", "last one"),
    ([{"role": "user", "content": 42}], "messages[0].content", "list of parts"),
    ([user(42)], "messages[0].content[0]", "list of parts"),
    ([user(PICTURE, {"type": "input_audio", "input_audio": {}})], "messages[0].content[1]", "hears nothing"),
    ([user(PICTURE, {"type": "file", "file": {}})], "messages[0].content[1]", "no files"),
    ([user(PICTURE, {"type": "video_url", "video_url": {}})], "messages[0].content[1]", "no films"),
    ([user(PICTURE, {"type": ["text"]})], "messages[0].content[1]", "a part is"),
    ([user(PICTURE, {"type": "text", "text": 42})], "messages[0].content[1].text", "no text"),
    ([user(PICTURE, text("x" * 40_000))], "messages[0].content[1].text", "shorten"),
    ([user(PICTURE, text("\ud800"))], "messages[0].content[1].text", "surrogate"),
    ([user({"type": "image_url", "image_url": {"uri": "data:,"}})], "messages[0].content[0].image_url", "url"),
    ([QUESTION] * 600, "messages", "too many"),
]


@pytest.mark.parametrize(("messages", "param", "words"), REFUSED)
def test_what_blip_2_cannot_do_is_refused_with_its_place(messages: list[object], param: str, words: str) -> None:
    with pytest.raises(InvalidField, match=words) as refused:
        read_conversation(messages)
    assert refused.value.about == param
    assert "\n" not in refused.value.message, "a chat shows one line"


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
    ],
)
def test_a_task_has_no_place_for_what_it_would_ignore(messages: list[object], task: Any) -> None:
    with pytest.raises(InvalidField):
        read_conversation(messages).asked(task)
