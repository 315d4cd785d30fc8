"""JSON rendered by hand is what pydantic makes of the same values."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip2_serve.api.openai.answers import Usage
from blip2_serve.api.openai.chat.answers import (
    ChatCompletion,
    ChatCompletionChunk,
    ChunkChoice,
    Delta,
    Logprobs,
)
from blip2_serve.api.openai.chat.render import ChunkHead, completion_json
from blip2_serve.tasks.completion import ChosenToken, CompletedRequest, Completion, Token

texts = st.text(max_size=8) | st.sampled_from(['"logprobs":null', '"choices":[]', "\\", "\u2028", "\U0001f600"])
numbers = st.floats(-100, 0)
tokens = st.builds(Token, texts, st.binary(max_size=4), numbers)
chosen = st.builds(ChosenToken, texts, st.binary(max_size=4), numbers, st.lists(tokens, max_size=3).map(tuple))
completions = st.builds(Completion, texts, st.lists(chosen, max_size=3).map(tuple), st.sampled_from(["stop", "length"]))


def unlike(answer: str) -> dict[str, Any]:
    """The parsed answer without what differs from one answer to the next."""
    parsed: dict[str, Any] = json.loads(answer)
    return {name: value for name, value in parsed.items() if name not in ("id", "created")}


@given(made=st.lists(completions, min_size=1, max_size=3).map(tuple), model=texts, logprobs=st.booleans())
def test_a_completion(made: tuple[Completion, ...], model: str, logprobs: bool) -> None:
    done = CompletedRequest(made, 3, 4, "0f", None)
    plain = ChatCompletion.of(model, done, logprobs=logprobs).model_dump_json()
    rendered = completion_json(model, done, logprobs=logprobs)
    assert unlike(rendered) == unlike(plain)
    assert list(json.loads(rendered)) == list(json.loads(plain))


@given(model=texts, text=texts, token=st.none() | chosen, ends=st.sampled_from([None, "stop", "length"]))
def test_a_chunk(model: str, text: str, token: ChosenToken | None, ends: Any) -> None:
    told = None if token is None else Logprobs.of(token)
    choice = ChunkChoice(index=2, delta=Delta(content=text), logprobs=told, finish_reason=ends)
    plain = ChatCompletionChunk(model=model, choices=[choice]).model_dump(exclude_none=True)
    plain["choices"][0].setdefault("finish_reason", None)  # null until the answer ends, as OpenAI sends it
    event = ChunkHead(model).event(2, {"content": text}, None if token is None else (token,), ends)
    assert event.endswith("\n\n")
    assert unlike(event.removeprefix("data: ")) == unlike(json.dumps(plain))


@pytest.mark.parametrize("model", ["demo", 'a"b'])
def test_the_chunks_of_a_stream_share_an_id(model: str) -> None:
    head = ChunkHead(model)
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    events = [head.event(0, {}), head.event(1, {}), head.usage_event(usage)]
    parsed = [json.loads(event.removeprefix("data: ")) for event in events]
    assert len({each["id"] for each in parsed}) == 1
    assert parsed[2]["usage"] == usage.model_dump()
