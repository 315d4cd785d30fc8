"""Vanishing chat callers and broken streams, on the real server with slow decode steps."""

import base64
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from support.pictures import jpeg
from support.serving import Server, serve

MOST = 256  # tokens of the longest answer; each takes `faulty_service.STEP_S`


def body(seed: int, **options: Any) -> dict[str, Any]:
    source = f"data:image/jpeg;base64,{base64.b64encode(jpeg(seed=seed)).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": source}}]
    return {"model": "blip2", "messages": [{"role": "user", "content": parts}], **options}


# Among 16 answers sampled from the tiny model, some are long.
LONG = {"n": 16, "temperature": 1.0, "max_tokens": MOST}


def post(server: Server, call: dict[str, Any], timeout_s: float = 120) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/chat/completions", json=call, timeout=timeout_s)


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_that_vanishes_frees_its_rows(faulty: Server, stream: bool) -> None:
    """Callers that would hold all 16 rows for long disconnect; the next caller gets rows at once."""
    began = time.monotonic()
    assert post(faulty, body(0, **LONG)).status_code == 200
    whole = time.monotonic() - began
    for seed in range(1, 9):
        leave(faulty, body(seed, stream=stream, **LONG), whole / 10)
    began = time.monotonic()
    assert post(faulty, body(9, max_tokens=2)).status_code == 200
    assert time.monotonic() - began < whole


def leave(server: Server, call: dict[str, Any], after_s: float) -> None:
    if not call["stream"]:
        with pytest.raises(httpx.ReadTimeout):
            post(server, call, after_s)
        return
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=call, timeout=60) as reply:
        lines = reply.iter_lines()
        assert next(lines).startswith("data: {")


def broken_stream(server: Server, fuse: Path | None) -> tuple[list[str], openai.APIError]:
    """Return the pieces that came before the error, and the error as the client raises it."""
    pieces: list[str] = []

    def listen(client: openai.OpenAI) -> None:
        for chunk in client.chat.completions.create(**body(0, stream=True, **LONG)):
            pieces.append(chunk.choices[0].delta.content or "")
            if fuse is not None and len(pieces) > LONG["n"]:
                fuse.touch()

    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    with client, pytest.raises(openai.APIError) as broken:
        listen(client)
    return pieces, broken.value


def test_an_error_in_mid_stream_is_an_event_and_no_clean_end(faulty: Server, fuse: Path) -> None:
    pieces, error = broken_stream(faulty, fuse)
    assert len(pieces) > LONG["n"]
    assert (error.code, error.type) == ("engine_dead", "server_error")
    late = post(faulty, body(1, stream=True))
    assert (late.status_code, late.json()["error"]["code"]) == (503, "engine_dead")


def test_a_deadline_in_mid_stream_is_an_event_too(
    tiny_checkpoints: dict[str, Path], tmp_path: Path, fuse: Path
) -> None:
    settings = {"BLIP2_MODEL": str(tiny_checkpoints["opt"]), "FUSE": str(fuse), "BLIP2_DEADLINE_S": "1"}
    with serve(tmp_path, settings, "tests.support.faulty_service:Blip2") as running:
        pieces, error = broken_stream(running, None)
        assert len(pieces) > LONG["n"]
        assert error.code == "deadline_exceeded"
        raw = post(running, body(0, stream=True, **LONG))
        assert raw.status_code == 200
        assert "[DONE]" not in raw.text
        assert post(running, body(0, **LONG)).status_code == 504
