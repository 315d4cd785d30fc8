"""The streams of calls are what benchmarks/measure/workloads.py says, and each server is asked the same."""

import base64
import io
import json
from email.message import Message
from email.parser import BytesParser
from itertools import islice

import pytest
from PIL import Image

from benchmarks.measure.posts import Post, to_adaptive, to_ours, to_ours_streamed, to_tutorial
from benchmarks.measure.workloads import NUM_TURNS, WORKLOADS, Call
from blip2_serve.families import OPT

TURNS = (("what shape is red?", "a star"), ("is there a circle?", "no."))
CALLS = [
    Call("caption", b"\xff\xd8 picture", 20),
    Call("vqa", b"\xff\xd8 picture", 5, "what color?"),
    Call("chat", b"\xff\xd8 picture", 40, "what color?", TURNS, num_beams=1),
]


def first(workload: str, number: int, series: str = "series") -> list[Call]:
    return list(islice(WORKLOADS[workload](series), number))


def form(post: Post) -> dict[str, bytes]:
    """The parts of a multipart body, as Python's own parser reads them."""
    message = BytesParser().parsebytes(f"Content-Type: {post.content_type}\r\n\r\n".encode() + post.body)
    parts: list[Message] = message.get_payload()  # type: ignore[assignment]
    names = [part.get_param("name", header="content-disposition") for part in parts]
    return dict(zip(names, [part.get_payload(decode=True) for part in parts], strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_series_is_the_same_every_time_and_shares_no_picture_with_another(workload: str) -> None:
    assert first(workload, 30) == first(workload, 30)
    other = {call.picture for call in first(workload, 30, "other")}
    assert not other & {call.picture for call in first(workload, 30)}


@pytest.mark.parametrize("workload", ["W1", "W2", "W4"])
def test_every_picture_is_another_and_can_be_read(workload: str) -> None:
    pictures = [call.picture for call in first(workload, 100)]
    assert len(set(pictures)) == 100
    assert Image.open(io.BytesIO(pictures[-1])).convert("RGB").size == (640, 480)


def test_captions_are_twenty_tokens_with_one_beam_or_five() -> None:
    assert {(call.task, call.num_tokens, call.num_beams) for call in first("W1", 20)} == {("caption", 20, 1)}
    assert {(call.task, call.num_tokens, call.num_beams) for call in first("W4", 20)} == {("caption", 20, 5)}


def test_mixed_calls_are_a_third_each_and_of_the_lengths_it_says() -> None:
    calls = first("W2", 600)
    for task, (shortest, longest) in {"vqa": (3, 10), "caption": (10, 30), "chat": (20, 60)}.items():
        lengths = [call.num_tokens for call in calls if call.task == task]
        assert 150 < len(lengths) < 250
        assert (min(lengths), max(lengths)) == (shortest, longest)
    assert all(bool(call.question) == (call.task != "caption") for call in calls)
    assert all(bool(call.turns) == (call.task == "chat") for call in calls)


def test_a_conversation_is_six_turns_about_one_picture() -> None:
    calls = first("W3", 3 * NUM_TURNS)
    assert [len(call.turns) for call in calls] == [0, 1, 2, 3, 4, 5] * 3
    assert [call.is_later_turn for call in calls[:3]] == [False, True, True]
    assert len({call.picture for call in calls}) == 3
    assert calls[2].turns == tuple((call.question, "a red circle") for call in calls[:2])


@pytest.mark.parametrize(
    ("call", "prompt"),
    list(zip(CALLS, ["", OPT.question_prompt("what color?"), OPT.chat_prompt(TURNS, "what color?")], strict=True)),
    ids=lambda value: value.task if isinstance(value, Call) else None,
)
def test_both_peers_are_given_the_prompt_that_our_server_makes(call: Call, prompt: str) -> None:
    tutorial = form(to_tutorial(call))
    (item,) = json.loads(to_adaptive(call).body)["items"]
    assert tutorial["txt"].decode() == item["prompt"] == prompt
    assert tutorial["img"] == base64.b64decode(item["image"]) == call.picture
    assert int(tutorial["num_tokens"]) == item["num_tokens"] == call.num_tokens


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.task)
def test_our_server_is_asked_for_exactly_as_many_tokens(call: Call) -> None:
    post = to_ours(call)
    fields = form(post)
    assert post.path == {"caption": "/generate", "vqa": "/vqa", "chat": "/chat"}[call.task]
    assert int(fields["min_new_tokens"]) == int(fields["max_new_tokens"]) == call.num_tokens
    assert fields["img"] == call.picture
    assert fields.get("txt", b"").decode() == call.question
    assert json.loads(fields.get("context", b"[]")) == [list(turn) for turn in call.turns]


def test_a_streamed_caption_carries_the_picture_and_asks_for_a_stream() -> None:
    post = to_ours_streamed(CALLS[0])
    body = json.loads(post.body)
    (part,) = body["messages"][0]["content"]
    assert base64.b64decode(part["image_url"]["url"].removeprefix("data:image/jpeg;base64,")) == CALLS[0].picture
    assert (post.streams, body["stream"], body["max_tokens"]) == (True, True, 20)
