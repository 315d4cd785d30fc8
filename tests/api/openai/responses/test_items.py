"""Items of an input become a conversation, with their own names in errors and in what is ignored."""

from typing import Any

import pytest

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai.messages import Conversation
from blip2_serve.api.openai.responses.items import read_items
from blip2_serve.errors import InvalidField
from blip2_serve.tasks.prompt import PromptSpec

PICTURE = {"type": "input_image", "image_url": "data:,"}


def user(*content: object, **more: object) -> dict[str, Any]:
    return {"role": "user", "content": list(content), **more}


def text(words: str) -> dict[str, str]:
    return {"type": "input_text", "text": words}


def answer(words: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": words, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def read(*items: object, strict: bool = False) -> tuple[Conversation, list[str]]:
    """Return the conversation, and the names of what was left out."""
    ignored = Ignored(strict=strict)
    conversation = read_items(list(items), ignored)
    return conversation, [name for name in ignored.headers.get("X-Ignored", "").split(", ") if name]


def test_a_conversation_is_sent_back_as_it_came_even_to_a_strict_server() -> None:
    items = [user(PICTURE, text("what?"), type="message"), answer("a cat"), {"role": "user", "content": "why?"}]
    conversation, ignored = read(*items, strict=True)
    assert conversation.asked("auto") == PromptSpec("chat", "why?", [("what?", "a cat")])
    assert (conversation.image, ignored) == ("data:,", [])


@pytest.mark.parametrize(
    ("items", "names"),
    [
        ([{"role": "developer", "content": "be brief"}, user(PICTURE)], ["developer"]),
        ([user({**PICTURE, "detail": "high"})], ["input[].content[].detail"]),
        ([{"type": "reasoning", "id": "rs_1", "summary": []}, user(PICTURE)], ["input[].reasoning"]),
        (
            [{"type": "function_call", "name": "f"}, {"type": "function_call_output", "output": ""}, user(PICTURE)],
            ["input[].function_call", "input[].function_call_output"],
        ),
        ([user(PICTURE, name="Ada")], ["input[].name"]),
        ([answer("hello"), user(PICTURE)], ["input[0]"]),
    ],
)
def test_what_blip_2_cannot_follow_is_left_out_and_named(items: list[object], names: list[str]) -> None:
    conversation, ignored = read(*items)
    assert (conversation.asked("auto"), ignored) == (PromptSpec("caption"), names)
    with pytest.raises(InvalidField):
        read(*items, strict=True)


@pytest.mark.parametrize(
    ("items", "param", "words"),
    [
        ([user(text("what?"))], "input", "add one as an input_image part"),
        ([user({"type": "input_image", "file_id": "file-1"})], "input[0].content[0].image_url", "no files are kept"),
        ([user({"type": "input_file", "file_id": "file-1"})], "input[0].content[0]", "reads no files"),
        ([user(PICTURE, PICTURE)], "input[0]", "one picture"),
        ([{"type": "item_reference", "id": "msg_1"}], "input[0]", "send the item itself"),
        ([PICTURE], "input[0]", "is a part"),
        ([{"type": 5}], "input[0].type", "an item is"),
        (["what?"], "input[0]", "no object"),
        ([user(PICTURE), answer("a cat")], "input", "last one"),
        ([user(PICTURE)] * 600, "input", "too many"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(items: list[object], param: str, words: str) -> None:
    with pytest.raises(InvalidField, match=words) as refused:
        read(*items)
    assert refused.value.about == param


def test_a_task_that_takes_no_turns_says_so_about_the_input() -> None:
    conversation, _ = read(user(PICTURE, text("what?")), answer("a cat"), user(text("why?")))
    with pytest.raises(InvalidField) as refused:
        conversation.asked("vqa")
    assert refused.value.about == "input"
