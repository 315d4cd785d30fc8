"""Vanishing callers and a dying engine, on the real server."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from support.pictures import jpeg
from support.serving import Server

LONG = {"max_new_tokens": "256", "min_new_tokens": "256", "num_beams": "16"}


def caption(server: Server, seed: int, **options: str) -> httpx.Response:
    return httpx.post(f"{server.url}/generate", files={"img": jpeg(seed=seed)}, data=options, timeout=120)


def test_an_error_in_the_loop_answers_everybody_and_turns_the_probes_false(faulty: Server, fuse: Path) -> None:
    with ThreadPoolExecutor(8) as clients:
        waiting = [clients.submit(caption, faulty, seed, **LONG) for seed in range(8)]
        time.sleep(1)
        assert not any(done.done() for done in waiting)
        fuse.touch()
        blown = time.monotonic()
        replies = [done.result(timeout=10) for done in waiting]
        assert time.monotonic() - blown < 1
    assert {(reply.status_code, reply.json()["error"]["code"]) for reply in replies} == {(503, "engine_dead")}
    assert caption(faulty, 0).status_code == 503
    assert httpx.get(f"{faulty.url}/livez").status_code == 503
    assert httpx.get(f"{faulty.url}/readyz").status_code == 503


def test_a_caller_that_vanishes_frees_its_rows(faulty: Server) -> None:
    """Callers that would hold all 16 rows for long disconnect; the next caller gets rows at once."""
    began = time.monotonic()
    assert caption(faulty, 0, **LONG).status_code == 200
    whole = time.monotonic() - began
    for seed in range(1, 9):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{faulty.url}/generate", files={"img": jpeg(seed=seed)}, data=LONG, timeout=whole / 10)
    began = time.monotonic()
    assert caption(faulty, 9, max_new_tokens="2").status_code == 200
    assert time.monotonic() - began < whole
