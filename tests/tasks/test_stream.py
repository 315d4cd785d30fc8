"""Completions with their tokens, whole and as streams, on a real engine without HTTP."""

import asyncio
import math
import threading
import time
from contextlib import aclosing

import pytest

from blip2_serve.config import Settings
from blip2_serve.engine.messages import FinishedRow
from blip2_serve.errors import DeadlineExceeded, InvalidImage
from blip2_serve.families import FLAN_T5
from blip2_serve.images import Upload
from blip2_serve.model.load import LoadedModel
from blip2_serve.options import DecodingOptions
from blip2_serve.tasks.completion import CompletedRequest, Completion, CompletionPiece, OutputOptions
from blip2_serve.tasks.prompt import PromptSpec
from blip2_serve.tasks.text import Transcript
from blip2_serve.tasks.verbs import Tasks
from support.pictures import jpeg

PICTURE = jpeg()
GREEDY = DecodingOptions(max_new_tokens=24, num_beams=1)
LONG = DecodingOptions(max_new_tokens=256, min_new_tokens=256, num_beams=1)
SAMPLES = DecodingOptions(
    max_new_tokens=24, num_beams=1, do_sample=True, top_p=1.0, top_k=0, seed=7, num_return_sequences=3
)
ASKED = [
    PromptSpec("caption"),
    PromptSpec("prefix", " a photo of"),
    PromptSpec("vqa", "what?"),
    PromptSpec("chat", "why?", [("what?", "a cat")]),
]


@pytest.fixture(scope="module", params=["opt", "t5"])
def loaded(request: pytest.FixtureRequest, tiny_models: dict[str, LoadedModel]) -> LoadedModel:
    return tiny_models[request.param]


def complete(tasks: Tasks, ask: PromptSpec, options: DecodingOptions, **wanted: object) -> CompletedRequest:
    return asyncio.run(tasks.complete(Upload(PICTURE), ask, options, OutputOptions(**wanted)))  # type: ignore[arg-type]


def stream(
    tasks: Tasks, ask: PromptSpec, options: DecodingOptions, picture: bytes = PICTURE, **wanted: object
) -> tuple[list[CompletionPiece], CompletedRequest]:
    async def listen() -> list[CompletionPiece | CompletedRequest]:
        stream = await tasks.stream(Upload(picture), ask, options, OutputOptions(**wanted))  # type: ignore[arg-type]
        return [part async for part in stream]

    *pieces, last = asyncio.run(listen())
    assert isinstance(last, CompletedRequest)
    return [piece for piece in pieces if isinstance(piece, CompletionPiece)], last


def test_every_way_to_ask_is_a_verb(tasks: Tasks) -> None:
    turns = [("what?", "a cat")]
    verbs = [
        tasks.caption(Upload(PICTURE), None, GREEDY),
        tasks.caption(Upload(PICTURE), " a photo of", GREEDY),
        tasks.ask(Upload(PICTURE), "what?", GREEDY),
        tasks.chat(Upload(PICTURE), "why?", turns, GREEDY),
    ]

    async def ask() -> list[str]:
        return [answer.text for answer in await asyncio.gather(*verbs)]

    assert [complete(tasks, asked, GREEDY).completions[0].text for asked in ASKED] == asyncio.run(ask())


@pytest.mark.parametrize("ask", ASKED, ids=lambda ask: ask.task)
@pytest.mark.parametrize("options", [GREEDY, SAMPLES], ids=["greedy", "samples"])
def test_the_pieces_of_a_stream_join_to_the_whole_answer(
    tasks: Tasks, ask: PromptSpec, options: DecodingOptions
) -> None:
    pieces, last = stream(tasks, ask, options)
    assert last == complete(tasks, ask, options)
    for row, completed in enumerate(last.completions):
        mine = [piece for piece in pieces if piece.row == row]
        assert "".join(piece.text for piece in mine) == completed.text
        assert tuple(piece.token for piece in mine if piece.token) == completed.tokens


def test_the_bytes_of_the_tokens_are_the_text(loaded: LoadedModel, tasks: Tasks) -> None:
    for completed in complete(tasks, ASKED[0], SAMPLES).completions:
        data = b"".join(
            token.data for token in completed.tokens if token.text not in loaded.tokenizer.all_special_tokens
        )
        assert data.decode("utf-8", "replace").strip() == completed.text


def test_a_stop_text_ends_the_answer_before_it(tasks: Tasks) -> None:
    whole = complete(tasks, ASKED[2], GREEDY).completions[0].text
    stop = whole[5:7]
    for completions in (
        complete(tasks, ASKED[2], GREEDY, stop=(stop,)),
        stream(tasks, ASKED[2], GREEDY, stop=(stop,))[1],
    ):
        completed = completions.completions[0]
        assert completed.finish_reason == "stop"
        assert completed.text == whole[: whole.index(stop)].strip()


def test_likely_tokens_come_with_each_token(tasks: Tasks) -> None:
    for token in complete(tasks, ASKED[0], GREEDY, top_logprobs=5).completions[0].tokens:
        assert len(token.likely) == 5
        assert (token.likely[0].text, token.likely[0].logprob) == (token.text, token.logprob)
        assert sum(math.exp(each.logprob) for each in token.likely) < 1.0001


def test_the_tokens_are_told_beside_the_event_loop(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    completed = Transcript.completed

    def noted(transcript: Transcript, begins: str, row: FinishedRow) -> Completion:
        threads.append(threading.current_thread())
        return completed(transcript, begins, row)

    monkeypatch.setattr(Transcript, "completed", noted)
    complete(tasks, PromptSpec("caption"), GREEDY, top_logprobs=2)
    stream(tasks, PromptSpec("caption"), GREEDY, top_logprobs=2)
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_the_picture_counts_with_what_was_read(loaded: LoadedModel, tasks: Tasks) -> None:
    done = complete(tasks, ASKED[2], SAMPLES)
    text = "Question: what? Short answer:" if loaded.family is FLAN_T5 else "Question: what? Answer:"
    assert done.prompt_tokens == loaded.num_query_tokens + len(loaded.encode_text(text))
    assert done.new_tokens >= sum(len(completed.tokens) for completed in done.completions)


def test_who_stops_listening_takes_the_request_along(tasks: Tasks) -> None:
    async def leave() -> None:
        stream = await tasks.stream(Upload(PICTURE), ASKED[0], LONG, OutputOptions())
        async with aclosing(stream):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    steps_before = tasks._runtime.engine.stats().num_steps
    asyncio.run(leave())
    gone = time.monotonic() + 5
    while tasks._runtime.engine.stats().num_rows:
        assert time.monotonic() < gone
    assert tasks._runtime.engine.stats().num_steps - steps_before < LONG.max_new_tokens
    assert complete(tasks, ASKED[0], GREEDY).completions


def test_what_fails_raises_from_the_first_piece_on(loaded: LoadedModel, tasks: Tasks) -> None:
    with pytest.raises(InvalidImage):
        stream(tasks, ASKED[0], GREEDY, picture=b"")
    hurried = Tasks(loaded, Settings(max_rows=16, deadline_s=0.001))
    try:
        with pytest.raises(DeadlineExceeded):
            stream(hurried, ASKED[0], LONG)
    finally:
        hurried.close()
