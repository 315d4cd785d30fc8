"""The application at /v1 under `ErrorShape`, without a server: bugs before an answer and within one."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest
from starlette.requests import ClientDisconnect

from blip2_serve.api.errors import ErrorShape
from blip2_serve.api.openai.app import openai_app
from blip2_serve.api.openai.chat.chunks import Chunks
from blip2_serve.api.openai.stream import EventStream
from blip2_serve.config import Settings
from blip2_serve.engine.messages import TokenEvent
from blip2_serve.errors import Busy, DeadlineExceeded, InvalidImage, Part
from blip2_serve.families import OPT
from blip2_serve.tasks.completion import ChosenToken, CompletedRequest, CompletionPiece
from blip2_serve.tasks.load.admission import Admission
from blip2_serve.tasks.stream import CompletionStream, EngineCall
from blip2_serve.tasks.text import Transcript
from blip2_serve.tasks.verbs import Tasks

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
BODY = {"model": "blip2", "messages": [{"role": "user", "content": [PICTURE]}]}
PIECE = CompletionPiece(0, "a", ChosenToken("a", b"a", -0.5))


class FailingTasks:
    """Stand in for `Tasks`: stream some pieces, then fail."""

    model_name, family, settings = "tiny", OPT, Settings()

    def __init__(self, error: Exception, *pieces: CompletionPiece) -> None:
        self._error = error
        self._pieces = pieces

    async def complete(self, *asked: object) -> None:
        raise self._error

    async def stream(self, *asked: object) -> CompletionStream:
        call = FailingCall(self._error, [TokenEvent(0, 0, 5, -0.5, piece.text) for piece in self._pieces])
        return await stream_of(call).start()


class FailingCall:
    """Stand in for `EngineCall`: return some events, then fail."""

    def __init__(self, error: Exception, events: list[TokenEvent]) -> None:
        self.is_closed = False
        self._error = error
        self._events = events

    @property
    def has_more_at_hand(self) -> bool:
        return bool(self._events)

    async def next(self) -> TokenEvent:
        if not self._events:
            raise self._error
        return self._events.pop(0)

    def close(self) -> None:
        self.is_closed = True


class FixedTranscript:
    """Stand in for `Transcript`: every token is the same."""

    def token(self, event: TokenEvent) -> ChosenToken:
        return ChosenToken("a", b"a", event.logprob)


async def _never(finished: object) -> CompletedRequest:
    raise AssertionError("no stream of these tests ends well")


def stream_of(call: FailingCall) -> CompletionStream:
    place = Admission(1, 1.0, lambda: 0).enter("somebody", 1)
    return CompletionStream("0f" * 32, None, cast(EngineCall, call), cast(Transcript, FixedTranscript()), _never, place)


RESPONSE = {"model": "blip2", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "AAAA"}]}]}
BODIES = {"/chat/completions": BODY, "/responses": RESPONSE, "/completions": {"model": "blip2", "image": "AAAA"}}


def post(get_tasks: Callable[[], object], path: str = "/chat/completions", **fields: Any) -> httpx.Response:
    app = ErrorShape(openai_app(cast(Callable[[], Tasks], get_tasks)))

    async def call() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return await client.post(path, json={**BODIES[path], **fields})

    return asyncio.run(call())


def no_tasks() -> object:
    raise KeyError("secret")


def test_a_bug_is_answered_in_our_shape_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    reply = post(no_tasks)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in reply.text
    assert [record.levelno for record in caplog.records if record.name.startswith("blip2_serve")] == [logging.ERROR]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_what_fails_before_the_first_token_has_its_own_status(stream: bool, path: str) -> None:
    reply = post(lambda: FailingTasks(Busy("Later.", retry_after_s=2)), path, stream=stream)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "2")


@pytest.mark.parametrize(
    ("error", "code"), [(KeyError("secret"), "internal_error"), (DeadlineExceeded("Late."), "deadline_exceeded")]
)
def test_what_fails_after_it_is_the_streams_last_event(error: Exception, code: str) -> None:
    reply = post(lambda: FailingTasks(error, PIECE, PIECE), stream=True)
    events = [json.loads(line.removeprefix("data: ")) for line in reply.text.split("\n\n") if line]
    assert [event["choices"][0]["delta"].get("content") for event in events[:-1]] == ["", "a", "a"]
    assert events[-1]["error"]["code"] == code
    assert "secret" not in reply.text


@pytest.mark.parametrize("path", BODIES)
def test_no_stream_that_failed_ends_as_if_it_were_whole(path: str) -> None:
    reply = post(lambda: FailingTasks(DeadlineExceeded("Late."), PIECE), path, stream=True)
    *_, last = [json.loads(line[6:]) for line in reply.text.split("\n") if line.startswith("data: {")]
    assert (last["error"]["code"], last["error"]["message"]) == ("deadline_exceeded", "Late.")
    assert "[DONE]" not in reply.text
    assert "response.completed" not in reply.text


@pytest.mark.parametrize(
    ("path", "param"), [("/chat/completions", "messages"), ("/responses", "input"), ("/completions", "image")]
)
def test_an_error_about_the_picture_names_the_protocols_own_field(path: str, param: str) -> None:
    reply = post(lambda: FailingTasks(InvalidImage("Damaged.", about=Part.IMAGE)), path)
    assert reply.json()["error"]["param"] == param


def test_a_piece_without_text_is_told_for_its_log_probability_only() -> None:
    silent = CompletionPiece(0, "", PIECE.token)
    plain = post(lambda: FailingTasks(KeyError(), PIECE, silent), stream=True)
    told = post(lambda: FailingTasks(KeyError(), PIECE, silent), stream=True, logprobs=True)
    assert (plain.text.count("data: "), told.text.count("data: ")) == (3, 4)
    assert told.text.count('"logprob":-0.5') == 2


def test_a_caller_that_left_before_the_first_event_ends_the_work() -> None:
    call = FailingCall(KeyError(), [TokenEvent(0, 0, 5, -0.5, "a")])

    async def gone(*message: object) -> None:
        raise OSError

    async def answer() -> None:
        stream = await stream_of(call).start()
        events = Chunks("tiny", logprobs=False, include_usage=False).events(stream, 1)
        await EventStream(stream, events, {})({"type": "http", "asgi": {"spec_version": "2.4"}}, gone, gone)  # type: ignore[arg-type]

    with pytest.raises(ClientDisconnect):
        asyncio.run(answer())
    assert call.is_closed
