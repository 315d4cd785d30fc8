"""JSON rendered by hand is what pydantic makes of the same values, whole and in events."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from blip2_serve.api.leniency import Ignored
from blip2_serve.api.openai.answers import ChosenLogprob
from blip2_serve.api.openai.responses.answers import ResponseAnswer
from blip2_serve.api.openai.responses.render import Events, response_json
from blip2_serve.api.openai.responses.request import validate_request
from blip2_serve.errors import DeadlineExceeded
from blip2_serve.families import OPT
from blip2_serve.options import FinishReason
from blip2_serve.tasks.completion import ChosenToken, CompletedRequest, Completion, CompletionPiece, Token
from blip2_serve.tasks.stream import CompletionStream

TOKENS = (
    ChosenToken('a"logprobs":[]', b"a", -0.5, (Token("b", b"b", -1.5),)),
    ChosenToken(" cat", b" cat", -0.25),
)
TEXT = 'a"logprobs":[] cat'


def begun() -> ResponseAnswer:
    asked = validate_request({"model": "blip2", "input": [{}]}, Ignored())
    return ResponseAnswer.begun("demo", asked, asked.options("caption", OPT))


def done(finish_reason: FinishReason = "stop") -> CompletedRequest:
    return CompletedRequest((Completion(TEXT, TOKENS, finish_reason),), 17, 3, "0f", None)


class FakeStream:
    """Stand in for `CompletionStream`: give some parts, then perhaps fail."""

    has_more_at_hand = False

    def __init__(self, *parts: CompletionPiece | CompletedRequest | Exception) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncGenerator[CompletionPiece | CompletedRequest, None]:
        for part in self._parts:
            if isinstance(part, Exception):
                raise part
            yield part


def events_of(*parts: CompletionPiece | CompletedRequest | Exception, logprobs: bool = False) -> list[dict[str, Any]]:
    async def collect() -> str:
        events = Events(begun(), logprobs=logprobs)
        return "".join([each async for each in events.events(cast(CompletionStream, FakeStream(*parts)))])

    told = [event.split("\n") for event in asyncio.run(collect()).split("\n\n") if event]
    parsed = [json.loads(data.removeprefix("data: ")) for _, data in told]
    assert [name.removeprefix("event: ") for name, _ in told] == [event["type"] for event in parsed]
    assert [event["sequence_number"] for event in parsed] == list(range(len(parsed)))
    return parsed


PIECES = tuple(CompletionPiece(0, token.text, token) for token in TOKENS)


@pytest.mark.parametrize("logprobs", [False, True])
def test_a_whole_answer_tells_its_tokens_where_they_are_asked_for(logprobs: bool) -> None:
    told = json.loads(response_json(begun(), done(), logprobs=logprobs))
    (part,) = told["output"][0]["content"]
    wanted = [ChosenLogprob.of(token).model_dump() for token in TOKENS] if logprobs else []
    assert (part["text"], part["logprobs"]) == (TEXT, wanted)
    assert (told["status"], told["usage"]["total_tokens"], told["store"]) == ("completed", 20, False)


@pytest.mark.parametrize("logprobs", [False, True])
def test_the_last_event_holds_what_the_whole_answer_would_and_deltas_join_to_it(logprobs: bool) -> None:
    events = events_of(*PIECES, done(), logprobs=logprobs)
    whole = json.loads(response_json(begun(), done(), logprobs=logprobs))
    last = events[-1]["response"]
    assert last["output"][0]["content"] == whole["output"][0]["content"]
    assert {**last, "id": "", "output": []} == {**whole, "id": "", "output": []}
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(event["delta"] for event in deltas) == TEXT
    told = [token for event in deltas for token in event["logprobs"]]
    assert told == whole["output"][0]["content"][0]["logprobs"]


def test_an_answer_that_was_cut_is_incomplete() -> None:
    *_, item, last = events_of(*PIECES, done("length"))
    assert (item["item"]["status"], last["type"]) == ("incomplete", "response.incomplete")
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.parametrize(
    ("error", "code"), [(KeyError("secret"), "internal_error"), (DeadlineExceeded("Late."), "deadline_exceeded")]
)
def test_an_error_is_the_last_event(error: Exception, code: str) -> None:
    events = events_of(PIECES[0], error)
    assert (events[-1]["type"], events[-1]["code"], events[-1]["error"]["code"]) == ("error", code, code)
    assert "secret" not in str(events)
