"""OpenAI's Responses API, with OpenAI's own Python client, against the real server with the demo checkpoint."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseUsage

from support.demo import ANSWER, CAPTION, FOLLOW_UP, FOLLOW_UP_ANSWER, PICTURE, PREFIX, QUESTION, TURN
from support.serving import Server

SOURCE = f"data:image/jpeg;base64,{base64.b64encode(PICTURE.read_bytes()).decode()}"
IMAGE = {"type": "input_image", "image_url": SOURCE, "detail": "auto"}


@pytest.fixture(scope="module")
def client(demo: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="any", max_retries=0) as sync_client:
        yield sync_client


def user(text: str | None) -> dict[str, Any]:
    return {"role": "user", "content": [IMAGE, *([{"type": "input_text", "text": text}] if text else [])]}


def ask(client: openai.OpenAI, text: str | None, **options: Any) -> Any:
    asked: Any = [user(text)]
    return client.responses.create(model="blip2", input=asked, **options)


def test_a_picture_alone_is_captioned_and_a_question_answered(client: openai.OpenAI) -> None:
    caption = ask(client, None)
    assert (caption.output_text, caption.status, caption.model, caption.store) == (CAPTION, "completed", "demo", False)
    assert isinstance(caption.usage, ResponseUsage)
    assert caption.usage.total_tokens == caption.usage.input_tokens + caption.usage.output_tokens
    assert ask(client, QUESTION).output_text == ANSWER
    assert ask(client, PREFIX, extra_body={"task": "prefix"}).output_text == CAPTION


def test_a_conversation_is_sent_whole_with_the_answers_as_they_came(client: openai.OpenAI) -> None:
    items: Any = [user(TURN[0])]
    said = client.responses.create(model="blip2", input=items)
    assert said.output_text == TURN[1]
    items += [*said.output, {"role": "user", "content": FOLLOW_UP}]
    answer = client.responses.with_raw_response.create(model="blip2", input=items)
    assert answer.parse().output_text == FOLLOW_UP_ANSWER
    assert answer.headers["x-dropped-turns"] == "0"
    with pytest.raises(openai.BadRequestError, match="send all of it as input"):
        client.responses.create(model="blip2", input=FOLLOW_UP, previous_response_id=said.id)


def test_the_clients_helper_accumulates_a_stream(client: openai.OpenAI) -> None:
    asked: Any = [user(None)]
    with client.responses.stream(model="blip2", input=asked) as events:
        told = list(events)
        final = events.get_final_response()
    assert (final.output_text, final.usage) == (CAPTION, ask(client, None).usage)
    deltas = [event.delta for event in told if event.type == "response.output_text.delta"]
    assert (len(deltas), "".join(deltas)) == (len(CAPTION.split()), CAPTION)
    assert [event.sequence_number for event in told] == list(range(len(told)))
    assert [event.type for event in told if "delta" not in event.type] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_an_answer_that_reaches_its_limit_is_incomplete_whole_and_streamed(client: openai.OpenAI) -> None:
    short = ask(client, None, max_output_tokens=3)
    assert (short.status, short.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert CAPTION.startswith(short.output_text)
    last = list(ask(client, None, max_output_tokens=3, stream=True))[-1]
    assert (last.type, last.response.output_text) == ("response.incomplete", short.output_text)


def test_log_probabilities_are_told_whole_and_streamed_alike(client: openai.OpenAI) -> None:
    (part,) = ask(client, None, top_logprobs=2).output[0].content
    assert "".join(token.token for token in part.logprobs).strip() == CAPTION
    assert all(len(token.top_logprobs) == 2 for token in part.logprobs)
    events = list(ask(client, None, top_logprobs=2, stream=True))
    assert events[-1].response.output[0].content[0].logprobs == part.logprobs
    told = [token.token for event in events if event.type == "response.output_text.delta" for token in event.logprobs]
    assert told == [token.token for token in part.logprobs]


def test_what_is_ignored_is_named(client: openai.OpenAI) -> None:
    asked: Any = [user(None)]
    tools: Any = [{"type": "web_search"}]
    told = client.responses.with_raw_response.create(
        model="blip2", input=asked, instructions="Be brief.", store=True, tools=tools, tool_choice="auto"
    )
    assert told.parse().output_text == CAPTION
    ignored = {"instructions", "store", "tools", "input[].content[].detail"}
    assert set(told.headers["x-ignored"].split(", ")) == ignored


def test_the_asynchronous_client_asks_and_streams(demo: Server) -> None:
    async def both() -> list[str]:
        asked: Any = [user(QUESTION)]
        async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="any", max_retries=0) as client:
            whole = await client.responses.create(model="blip2", input=asked)
            async with client.responses.stream(model="blip2", input=asked) as events:
                return [whole.output_text, (await events.get_final_response()).output_text]

    assert asyncio.run(both()) == [ANSWER, ANSWER]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"input": "what is it?"}, "input"),
        ({"background": True}, "background"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"input": [{"role": "user", "content": [{**IMAGE, "image_url": "https://x/a.jpg"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{**IMAGE, "image_url": "data:;base64,AAAA"}]}]}, "input"),
        ({"model": "gpt-4o"}, "model"),
    ],
)
def test_a_refusal_has_its_own_status(client: openai.OpenAI, options: dict[str, Any], param: str, stream: bool) -> None:
    asked = {"model": "blip2", "input": [user(QUESTION)], **options}
    with pytest.raises(openai.APIStatusError) as refused:
        client.responses.create(stream=stream, **asked)
    assert (refused.value.status_code in (400, 404, 415), refused.value.param) == (True, param)
