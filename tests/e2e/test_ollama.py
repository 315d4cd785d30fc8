"""Ollama's own client, synchronous, asynchronous and streaming, against the real server with the demo checkpoint."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from support.demo import ANSWER, CAPTION, FOLLOW_UP, FOLLOW_UP_ANSWER, PICTURE, QUESTION, TURN
from support.pictures import jpeg
from support.serving import Server, serve

IMAGE = PICTURE.read_bytes()


@pytest.fixture(scope="module")
def client(demo: Server) -> Iterator[ollama.Client]:
    with ollama.Client(demo.url) as client:
        yield client


def asked(text: str, *images: bytes) -> dict[str, Any]:
    return {"role": "user", "content": text, **({"images": list(images)} if images else {})}


def photoprism(prompt: str, **others: Any) -> dict[str, Any]:
    """Build a body as PhotoPrism's ApiRequest is written (internal/ai/vision/api_request.go)."""
    images = [base64.b64encode(IMAGE).decode()]
    named = {"id": "0f0e6b0a-5d3c-4f31-93d2-6f1e7a0b3a10", "model": "gemma3:latest", "suffix": "", "stream": False}
    return {**named, "prompt": prompt, "images": images, "options": {"temperature": 0.1}, **others}


def test_a_question_is_answered_and_a_picture_alone_is_captioned(client: ollama.Client) -> None:
    answer = client.generate("demo", QUESTION, images=[IMAGE])
    assert (answer.response, answer.done, answer.done_reason, answer.model) == (ANSWER, True, "stop", "demo")
    assert (answer.eval_count, answer.prompt_eval_count) == (2, 27)
    assert answer.total_duration >= answer.eval_duration > 0
    assert client.generate("blip2", images=[PICTURE]).response == CAPTION


def test_a_raw_prompt_is_continued(client: ollama.Client) -> None:
    begins = " ".join(CAPTION.split()[:7])
    rest = client.generate("demo", begins, images=[IMAGE], raw=True).response
    assert f"{begins} {rest}" == CAPTION


def test_an_answer_is_streamed_a_piece_a_line_unless_the_client_wants_it_whole(
    client: ollama.Client, demo: Server
) -> None:
    *pieces, last = client.generate("demo:latest", images=[IMAGE], stream=True)
    assert "".join(piece.response for piece in pieces) == CAPTION
    assert [piece.done for piece in pieces] == [False] * len(pieces)
    assert (last.response, last.done, last.done_reason, last.eval_count) == ("", True, "stop", 15)
    body = {"model": "demo", "images": [base64.b64encode(IMAGE).decode()]}
    reply = httpx.post(f"{demo.url}/api/generate", json=body)
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["response"] for line in reply.text.splitlines()][:2] == ["a", " yellow"]


def test_a_limit_and_a_stop_text_end_an_answer(client: ollama.Client) -> None:
    short = client.generate("demo", images=[IMAGE], options={"num_predict": 3})
    assert (short.response, short.done_reason) == ("a yellow star", "length")
    assert client.generate("demo", images=[IMAGE], options={"num_predict": -1, "num_ctx": 4096}).response == CAPTION
    assert client.generate("demo", images=[IMAGE], options={"stop": [" to the"]}).response == "a yellow star"


def test_a_conversation_goes_on_as_a_stream(client: ollama.Client) -> None:
    messages: list[Any] = [asked(TURN[0], IMAGE)]
    answers = []
    for question in (FOLLOW_UP, None):
        pieces = client.chat("demo", messages=messages, stream=True)
        answers.append("".join(piece.message.content or "" for piece in pieces))
        messages += [{"role": "assistant", "content": answers[-1]}, asked(question or "")]
    assert answers == [TURN[1], FOLLOW_UP_ANSWER]


def test_the_last_picture_is_meant_and_what_was_said_before_it_is_dropped(demo: Server) -> None:
    encoded = [base64.b64encode(data).decode() for data in (jpeg(), IMAGE)]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "what is this?", "images": encoded[:1]},
        {"role": "assistant", "content": "a gradient"},
        {"role": "user", "content": QUESTION, "images": encoded[1:]},
    ]
    reply = httpx.post(f"{demo.url}/api/chat", json={"model": "demo", "messages": messages, "stream": False})
    assert reply.json()["message"] == {"role": "assistant", "content": ANSWER}
    assert (reply.headers["x-dropped-turns"], reply.headers["x-ignored"]) == ("1", "system")


def test_the_asynchronous_client_is_answered_too(demo: Server) -> None:
    async def ask() -> list[str]:
        async with ollama.AsyncClient(demo.url) as client:
            whole = await client.chat("demo", messages=[asked(QUESTION, IMAGE)])
            pieces = [piece.response async for piece in await client.generate("demo", images=[IMAGE], stream=True)]
        return [whole.message.content or "", "".join(pieces)]

    assert asyncio.run(ask()) == [ANSWER, CAPTION]


def test_drawing_with_a_seed_repeats_itself_and_log_probabilities_are_told(client: ollama.Client) -> None:
    options = {"temperature": 3, "top_p": 1, "top_k": -1, "seed": 4, "num_predict": 12}
    drawn = {client.generate("demo", images=[IMAGE], options=options).response for _ in range(2)}
    assert len(drawn) == 1
    assert drawn != {CAPTION}
    answer = client.generate("demo", QUESTION, images=[IMAGE], logprobs=True, top_logprobs=2)
    (token,) = answer.logprobs
    assert (token.token.strip(), len(token.top_logprobs)) == (ANSWER, 2)
    assert token.logprob == token.top_logprobs[0].logprob


def test_nothing_asked_loads_the_model(client: ollama.Client) -> None:
    assert client.generate("demo").done_reason == "load"
    assert client.chat("demo", messages=[]).done_reason == "load"
    assert client.generate("demo", keep_alive=0).done_reason == "unload"


def test_models_are_listed_and_shown(client: ollama.Client) -> None:
    assert [each.model for each in client.list().models] == ["demo:latest"]
    assert [each.model for each in client.ps().models] == ["demo:latest"]
    for name in ("demo", "demo:latest", "blip2"):
        shown = client.show(name)
        assert (shown.capabilities, shown.details and shown.details.family) == (["completion", "vision"], "opt")
    with pytest.raises(ollama.ResponseError, match="There is no model 'llava' here") as refused:
        client.show("llava")
    assert refused.value.status_code == 404


@pytest.mark.parametrize(
    ("asks", "status", "message"),
    [
        ({"model": "llava", "prompt": "hi"}, 404, "There is no model 'llava' here"),
        ({"prompt": "hi"}, 400, "images: BLIP-2 talks about a picture and there is none: add one to images."),
        ({"images": [IMAGE, IMAGE]}, 400, "images: BLIP-2 looks at one picture and there are 2"),
        ({"images": [b"no picture"]}, 415, "The file is not a picture that can be read"),
        ({"images": [IMAGE], "format": {"type": "object"}}, 400, "BLIP-2 writes plain text"),
        ({"images": [IMAGE], "options": {"temperature": -1}}, 400, "options.temperature: Input should be greater"),
        ({"images": [b"0" * 21_000_000]}, 413, "bytes"),
    ],
)
def test_the_client_shows_the_one_line_of_an_error(
    client: ollama.Client, asks: dict[str, Any], status: int, message: str
) -> None:
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError) as refused:
            list(client.generate(**{"model": "demo", **asks}, stream=stream))
        assert refused.value.status_code == status
        assert message in str(refused.value.error)


def test_what_ollama_has_beside_is_not_there_and_says_so(client: ollama.Client, demo: Server) -> None:
    with pytest.raises(ollama.ResponseError, match="There is nothing at /api/pull") as refused:
        client.pull("llava")
    assert refused.value.status_code == 404
    assert httpx.head(f"{demo.url}/api/version").status_code == 200
    assert "swagger" in httpx.get(demo.url).text


def test_photoprism_is_answered_by_the_name_of_its_default_model(tmp_path: Path) -> None:
    labels = {"format": "json", "system": "Output concise JSON.", "options": {"temperature": 0.1, "stop": ["\n\n"]}}
    settings = {"BLIP2_MODEL": "demo", "BLIP2_MODEL_ALIASES": "gemma3:latest"}
    with serve(tmp_path, settings) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        # It takes an answer about labels that is no JSON for a caption (engine_ollama.go).
        caption, labelled = (
            client.post("/api/generate", json=photoprism(QUESTION, **others)) for others in ({}, labels)
        )
        listed = client.get("/api/tags").json()["models"]
    for reply in (caption, labelled):
        told = reply.json()
        assert (told["response"], told["done"], told["model"]) == (ANSWER, True, "gemma3:latest")
    assert caption.headers["x-ignored"] == "id"
    assert set(labelled.headers["x-ignored"].split(", ")) == {"id", "system", "format"}
    assert [each["name"] for each in listed] == ["demo:latest", "gemma3:latest"]
