"""OpenAI's own Python client, synchronous and asynchronous, against the real server with the demo checkpoint."""

import asyncio
import base64
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from support.demo import ANSWER, CAPTION, FOLLOW_UP, FOLLOW_UP_ANSWER, PICTURE, PREFIX, QUESTION, TURN
from support.serving import Server, serve

SOURCE = f"data:image/jpeg;base64,{base64.b64encode(PICTURE.read_bytes()).decode()}"
IMAGE = {"type": "image_url", "image_url": {"url": SOURCE}}
# The demo checkpoint is very certain; only at this temperature do its answers vary.
WILD = {"temperature": 2.0, "seed": 3, "max_tokens": 12}


@pytest.fixture(scope="module")
def client(demo: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="any", max_retries=0) as sync_client:
        yield sync_client


def user(text: str | None, *, image: bool = True) -> dict[str, Any]:
    parts = [IMAGE] if image else []
    return {"role": "user", "content": [*parts, *([{"type": "text", "text": text}] if text else [])]}


def ask(client: openai.OpenAI, text: str | None, **options: Any) -> Any:
    messages: Any = [user(text)]
    return client.chat.completions.create(model="blip2", messages=messages, **options)


def joined(chunks: Iterable[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_picture_alone_is_captioned(client: openai.OpenAI) -> None:
    reply = ask(client, None)
    assert reply.choices[0].message.content == CAPTION
    assert (reply.model, reply.object, reply.choices[0].finish_reason) == ("demo", "chat.completion", "stop")
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_question_is_answered(client: openai.OpenAI) -> None:
    assert ask(client, QUESTION).choices[0].message.content == ANSWER
    assert ask(client, QUESTION, extra_body={"task": "vqa", "num_beams": 5}).choices[0].message.content == ANSWER


def test_a_caption_is_continued(client: openai.OpenAI) -> None:
    assert ask(client, PREFIX, extra_body={"task": "prefix"}).choices[0].message.content == CAPTION
    assert joined(ask(client, PREFIX, extra_body={"task": "prefix"}, stream=True)) == CAPTION


def test_a_conversation_of_three_turns_is_held_as_a_stream(client: openai.OpenAI) -> None:
    messages: Any = [user(QUESTION)]
    answers = []
    for follow_up in (TURN[0], FOLLOW_UP, None):
        answers.append(joined(client.chat.completions.create(model="demo", messages=messages, stream=True)))
        messages.append({"role": "assistant", "content": answers[-1]})
        messages.append(user(follow_up, image=False))
    assert answers == [ANSWER, TURN[1], FOLLOW_UP_ANSWER]


def test_an_answer_can_be_sent_back_as_the_client_gives_it(client: openai.OpenAI) -> None:
    said = ask(client, TURN[0]).choices[0].message
    messages: Any = [user(TURN[0]), said, user(FOLLOW_UP, image=False)]
    reply = client.chat.completions.with_raw_response.create(model="blip2", messages=messages)
    assert reply.parse().choices[0].message.content == FOLLOW_UP_ANSWER
    assert reply.headers["x-dropped-turns"] == "0"


def test_a_stream_tells_the_role_first_the_reason_last_and_then_the_usage(client: openai.OpenAI) -> None:
    chunks = list(ask(client, None, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == ask(client, None).usage
    assert len({chunk.id for chunk in chunks}) == 1
    words = [chunk.choices[0].delta.content for chunk in chunks[1:-2]]
    assert (len(words), "".join(words)) == (len(CAPTION.split()), CAPTION)


def test_the_asynchronous_client_streams_many_at_once(demo: Server) -> None:
    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="any", max_retries=0) as client:
            return list(await asyncio.gather(*(stream(client, question) for question in (None, QUESTION) * 4)))

    async def stream(client: openai.AsyncOpenAI, question: str | None) -> str:
        messages: Any = [user(question)]
        chunks = await client.chat.completions.create(model="blip2", messages=messages, stream=True)
        return joined([chunk async for chunk in chunks])

    assert asyncio.run(all_of_them()) == [CAPTION, ANSWER] * 4


@pytest.mark.parametrize("logprobs", [False, True])
def test_several_answers_are_drawn_and_streamed_alike(client: openai.OpenAI, logprobs: bool) -> None:
    options = {**WILD, "n": 4, "logprobs": logprobs, **({"top_logprobs": 3} if logprobs else {})}
    whole = ask(client, None, **options).choices
    assert [choice.index for choice in whole] == [0, 1, 2, 3]
    assert len({choice.message.content for choice in whole}) > 1
    chunks = [chunk.choices[0] for chunk in ask(client, None, stream=True, **options)]
    for choice in whole:
        mine = [chunk for chunk in chunks if chunk.index == choice.index]
        assert "".join(chunk.delta.content or "" for chunk in mine) == choice.message.content
        assert mine[-1].finish_reason == choice.finish_reason
        told = [token for chunk in mine if chunk.logprobs for token in chunk.logprobs.content]
        assert told == (choice.logprobs.content if logprobs else [])


def test_logprobs_tell_the_tokens_and_their_likeliest_rivals(client: openai.OpenAI) -> None:
    content = ask(client, None, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert "".join(token.token for token in content).strip() == CAPTION
    assert b"".join(bytes(token.bytes) for token in content).decode().strip() == CAPTION
    assert all(len(token.top_logprobs) == 2 for token in content)
    assert all(token.top_logprobs[0].token == token.token for token in content)
    assert math.exp(sum(token.logprob for token in content)) > 0.5


def test_stop_and_max_tokens_end_an_answer(client: openai.OpenAI) -> None:
    stop = CAPTION.split()[3]
    stopped = ask(client, None, stop=[stop]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (CAPTION[: CAPTION.index(stop)].strip(), "stop")
    assert joined(ask(client, None, stop=stop, stream=True)) == stopped.message.content
    for name in ("max_tokens", "max_completion_tokens"):
        short = ask(client, None, **{name: 3})
        assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 3)
        assert CAPTION.startswith(short.choices[0].message.content)


def test_a_seed_draws_the_same_again(client: openai.OpenAI) -> None:
    texts = [ask(client, None, **WILD).choices[0].message.content for _ in range(2)]
    assert texts[0] == texts[1]


def test_the_models_are_listed_and_any_other_is_unknown(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo", "demo-itm"]
    assert client.models.retrieve("demo").id == client.models.retrieve("blip2").id == "demo"
    messages: Any = [user(None)]
    for call in (
        lambda: client.models.retrieve("gpt-4o"),
        lambda: client.chat.completions.create(model="gpt-4o", messages=messages),
    ):
        with pytest.raises(openai.NotFoundError, match="demo") as refused:
            call()
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_what_clients_send_by_habit_is_ignored_and_named(client: openai.OpenAI) -> None:
    system: Any = {"role": "system", "content": "You are a helpful assistant.", "name": "boss"}
    asked: Any = {**user(QUESTION), "name": "ada"}
    raw = client.chat.completions.with_raw_response.create(
        model="blip2",
        messages=[system, asked],
        user="ada",
        frequency_penalty=0.5,
        max_tokens=4096,
        seed=-1,
        tools=[{"type": "function", "function": {"name": "look"}}],
        tool_choice="auto",
        extra_body={"chat_template_kwargs": {"enable_thinking": False}, "top_k": -1},
    )
    assert raw.parse().choices[0].message.content == ANSWER
    assert set(raw.headers["x-ignored"].split(", ")) == {
        "system",
        "messages[].name",
        "user",
        "frequency_penalty",
        "tools",
        "chat_template_kwargs",
    }
    with client.chat.completions.with_streaming_response.create(
        model="blip2", messages=[system, asked], stream=True
    ) as stream:
        assert stream.headers["x-ignored"] == "system, messages[].name"


def test_a_new_picture_begins_a_new_conversation(client: openai.OpenAI) -> None:
    messages: Any = [user(QUESTION), {"role": "assistant", "content": ANSWER}, user(TURN[0])]
    raw = client.chat.completions.with_raw_response.create(model="blip2", messages=messages)
    assert (raw.parse().choices[0].message.content, raw.headers["x-dropped-turns"]) == (TURN[1], "1")


def test_guards_and_minimum_lengths_are_options_of_ours(client: openai.OpenAI) -> None:
    extra = {"guards": True, "min_tokens": 3, "no_repeat_ngram_size": 2, "min_p": 0.1}
    reply = ask(client, QUESTION, extra_body=extra)
    assert reply.usage.completion_tokens >= 3


def test_a_strict_server_with_aliases(tmp_path: Path) -> None:
    settings = {"BLIP2_MODEL": "demo", "BLIP2_STRICT": "on", "BLIP2_MODEL_ALIASES": "gpt-4o, captioner"}
    with (
        serve(tmp_path, {**settings, "BLIP2_UI": "off"}) as running,
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0) as client,
    ):
        assert [model.id for model in client.models.list()] == ["demo", "gpt-4o", "captioner"]
        messages: Any = [user(QUESTION)]
        answer = client.chat.completions.create(model="gpt-4o", messages=messages, user="ada")
        assert answer.choices[0].message.content == ANSWER
        for call in ({"frequency_penalty": 1}, {"messages": [{"role": "system", "content": "hi"}, *messages]}):
            with pytest.raises(openai.BadRequestError, match="leave it out"):
                client.chat.completions.create(**{"model": "demo", "messages": messages, **call})
        with pytest.raises(openai.NotFoundError, match="gpt-4o"):
            client.chat.completions.create(model="gpt-4", messages=messages)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}, "tool_choice"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"n": 2}, "n"),
    ({"messages": [{"role": "user", "content": QUESTION}]}, "messages"),
    ({"messages": [user("x " * 5000)]}, "messages"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/a.jpg"}}]}]},
        "messages",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:;base64,AAAA"}}]}]},
        "messages",
    ),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("options", "param"), REFUSED)
def test_a_refusal_is_openais_error_with_its_own_status(
    client: openai.OpenAI, options: dict[str, Any], param: str, stream: bool
) -> None:
    messages = options.get("messages", [user(QUESTION)])
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(model="blip2", stream=stream, **{**options, "messages": messages})
    assert refused.value.status_code in (400, 415)
    assert (refused.value.type, refused.value.param) == ("invalid_request_error", param)
    assert set(refused.value.response.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_that_is_no_json_object_is_refused_in_our_shape(demo: Server) -> None:
    url = f"{demo.url}/v1/chat/completions"
    cases: list[tuple[dict[str, Any], int]] = [
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400),
        ({"json": [1]}, 400),
        ({"content": b'{"model": "blip2", "model": "x"}', "headers": {"content-type": "application/json"}}, 400),
        ({"data": {"model": "blip2"}}, 400),
        ({"files": {"model": b"blip2"}}, 415),
        ({"content": b" " * 20_000_001, "headers": {"content-type": "application/json"}}, 413),
    ]
    for body, status in cases:
        reply = httpx.post(url, **body)
        assert reply.status_code == status
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert httpx.get(url).status_code == 405
    assert httpx.get(f"{demo.url}/v1/nothing").json()["error"]["code"] == "not_found"


def test_the_openapi_page_and_the_metrics_know_the_endpoints(demo: Server, client: openai.OpenAI) -> None:
    ask(client, QUESTION)
    spec = httpx.get(f"{demo.url}/docs.json").json()
    post = spec["paths"]["/v1/chat/completions"]["post"]
    body = post["requestBody"]["content"]["application/json"]
    assert {"model", "messages", "task", "stream"} <= set(body["schema"]["properties"])
    assert set(post["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert post["responses"]["400"]["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
    assert "422" not in spec["paths"]["/v1/models/{model}"]["get"]["responses"]
    assert {"HTTPValidationError", "ValidationError"}.isdisjoint(spec["components"]["schemas"])
    httpx.get(f"{demo.url}/v1/models/anything-that-a-stranger-thinks-of")
    metrics = httpx.get(f"{demo.url}/metrics").text
    assert 'endpoint="/v1/chat/completions"' in metrics
    assert "stranger" not in metrics
    demo.logged("POST /v1/chat/completions 200")


# LiteLLM's health check and Open WebUI's titles: no picture, and fields for other models.
BESIDE_THE_CHAT: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "Hey how's it going?"}], "max_tokens": 5},
    {
        "messages": [{"role": "user", "content": "### Task:\nGenerate a concise title.\n\nUSER: what color is it?"}],
        "stream": False,
        "max_completion_tokens": 1000,
        "metadata": {"task": "title_generation", "chat_id": "1"},
    },
]


@pytest.mark.parametrize("body", BESIDE_THE_CHAT)
def test_what_programs_ask_beside_the_chat_without_a_picture_is_refused_in_one_line(
    client: openai.OpenAI, body: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError, match="there is none: add one") as refused:
        client.chat.completions.create(model="blip2", **body)
    assert "\n" not in refused.value.response.json()["error"]["message"]
