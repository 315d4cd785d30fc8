"""Deeds of strangers against a server; each attack goes on until it is cancelled, and counts how it was answered."""

import asyncio
import base64
import itertools
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache

import aiohttp

from benchmarks.measure.posts import Post, multipart
from tests.support.attacks import pictures
from training.pictures.drawing import jpeg_bytes
from training.pictures.held_out import standard

Answers = Counter[str]
Attack = Callable[[aiohttp.ClientSession, Answers], Awaitable[None]]

_STOPS = [("a" * 255) + last for last in "wxyz"]
_HALF = 10_000_000


@cache
def small_picture(number: int = 0) -> bytes:
    """Draw a picture of a few kilobytes."""
    return jpeg_bytes(standard(number)[1], 80)


async def many_beams(session: aiohttp.ClientSession, answers: Answers) -> None:
    """200 requests at once, of five beams and 256 tokens."""
    fields = {"num_beams": "5", "max_new_tokens": "256", "min_new_tokens": "256"}
    await _again(session, answers, 200, lambda number: multipart("/generate", fields, small_picture(number % 50)))


async def many_streams(session: aiohttp.ClientSession, answers: Answers) -> None:
    """50 streams of 16 samples with 20 log-probabilities and four long stop strings."""
    asked = {"stream": True, "n": 16, "temperature": 2, "max_tokens": 256, "logprobs": True, "top_logprobs": 20}
    await _again(session, answers, 50, lambda number: chat(number % 50, {**asked, "stop": _STOPS}))


async def documents(session: aiohttp.ClientSession, answers: Answers) -> None:
    """60 connections that ask for /docs.json and /schema.json."""
    await _together(_read_again(session, answers, f"/{name}.json") for name in ["docs", "schema"] * 30)


async def many_keys(session: aiohttp.ClientSession, answers: Answers) -> None:
    """JSON of 20 MB with 99,000 unknown keys, one after the other."""
    body = json.dumps({f"{number:0200d}": None for number in range(90_000)}).encode()
    await _again(session, answers, 1, lambda _: Post("/generate", "application/json", body))


async def large_batches(session: aiohttp.ClientSession, answers: Answers) -> None:
    """Five bodies of nearly 200 MB to /batch at a time, with a character outside Latin-1, or a million escapes."""
    emoji = f'{{"imgs": ["{"A" * 198_000_000}\U0001f600"]}}'.encode()
    escapes = f'{{"imgs": ["{"A" * 192_000_000}{chr(92)}u0041"]}}'.replace(f"{chr(92)}u0041", f"{chr(92)}/" * 1_000_001)
    bodies = itertools.cycle([emoji, escapes.encode()])
    await _again(session, answers, 5, lambda _: Post("/batch", "application/json", next(bodies)))


async def half_uploads(session: aiohttp.ClientSession, answers: Answers) -> None:
    """150 pictures of 20 MB of which the second half never comes."""
    await _together(_half_upload(session, answers) for _ in range(150))


async def bad_pictures(session: aiohttp.ClientSession, answers: Answers) -> None:
    """Two at a time of the pictures that take a reader minutes."""
    each = itertools.cycle(_costly_pictures())
    await _again(session, answers, 2, lambda _: multipart("/generate", {}, next(each)))


@cache
def _costly_pictures() -> list[bytes]:
    return [
        pictures.tiff_of_many_strips(),
        pictures.png_with_exif_of_rationals(),
        pictures.bmp_of_short_lines(),
        pictures.jpeg_of_many_scans(),
        pictures.avif_that_lies(),
        pictures.png_with_chunks_behind(),
    ]


async def page_uploads(session: aiohttp.ClientSession, answers: Answers) -> None:
    """50 pictures of 5 MB at once to the page."""
    picture = small_picture() + os.urandom(5_000_000)
    await _again(session, answers, 50, lambda _: multipart("/ui/gradio_api/upload", {}, picture, "files"))


async def page_sessions(session: aiohttp.ClientSession, answers: Answers) -> None:
    """Calls of the page, each in a session of its own, half of them with values that do not fit."""
    numbers = itertools.count()

    def call(_: int) -> Post:
        number = next(numbers)
        body = {"data": [None, "what?"] if number % 2 else [7], "fn_index": 2, "session_hash": f"s{number}"}
        return Post("/ui/gradio_api/queue/join", "application/json", json.dumps(body).encode())

    await _again(session, answers, 10, call)


async def vanishing(session: aiohttp.ClientSession, answers: Answers) -> None:
    """20 callers that leave within half a second: of captions, of streams, of uploads."""
    rng = random.Random(0)
    stream = {"stream": True, "n": 4, "temperature": 1.0, "max_tokens": 64}

    async def one(number: int) -> None:
        posts = [multipart("/generate", {"num_beams": "5"}, small_picture(number)), chat(number, stream)]
        posts.append(Post("/generate", "application/json", b"x" * 5_000_000))
        while True:
            try:
                async with asyncio.timeout(rng.uniform(0.0, 0.5)):
                    answers[await send(session, rng.choice(posts))] += 1
            except TimeoutError:
                answers["left"] += 1

    await _together(one(number) for number in range(20))


async def slow(session: aiohttp.ClientSession, answers: Answers) -> None:
    """50 callers that send a byte a second."""
    whole = multipart("/generate", {}, small_picture())

    async def one() -> None:
        async def bytes_of() -> AsyncIterator[bytes]:
            for byte in whole.body:
                yield bytes([byte])
                await asyncio.sleep(1.0)

        headers = {"Content-Type": whole.content_type, "Content-Length": str(len(whole.body))}
        while True:
            try:
                async with session.post(whole.path, data=bytes_of(), headers=headers) as reply:
                    answers[str(reply.status)] += 1
            except (aiohttp.ClientError, OSError) as error:
                answers[type(error).__name__] += 1
            await asyncio.sleep(1.0)

    await _together(one() for _ in range(50))


CHAOS = (vanishing.__name__, slow.__name__)
"""Those that go on beside all others in a chaos."""

ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        vanishing,
        slow,
        many_beams,
        many_streams,
        documents,
        many_keys,
        large_batches,
        half_uploads,
        bad_pictures,
        page_uploads,
        page_sessions,
    )
}


def prepare(attack: str) -> None:
    """Make beforehand what takes seconds to make."""
    if attack == bad_pictures.__name__:
        _costly_pictures()


def chat(number: int, asked: dict[str, object]) -> Post:
    """Ask OpenAI's endpoint about a picture."""
    source = f"data:image/jpeg;base64,{base64.b64encode(small_picture(number)).decode()}"
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": source}}]}]
    body = json.dumps({"model": "blip2", "messages": messages, **asked}).encode()
    return Post("/v1/chat/completions", "application/json", body)


async def _together(calls: object) -> None:
    await asyncio.gather(*calls)  # type: ignore[misc]


async def _again(
    session: aiohttp.ClientSession, answers: Answers, num_at_once: int, make: Callable[[int], Post]
) -> None:
    """Keep so many requests on their way; whoever is told to wait waits a second."""

    async def one(number: int) -> None:
        while True:
            status = await send(session, make(number))
            answers[status] += 1
            await asyncio.sleep(1.0 if status == "429" else 0.0)

    await _together(one(number) for number in range(num_at_once))


async def send(session: aiohttp.ClientSession, post: Post) -> str:
    """Send a request and read the answer; return its status."""
    try:
        async with session.post(post.path, data=post.body, headers={"Content-Type": post.content_type}) as reply:
            await reply.read()
            return str(reply.status)
    except (aiohttp.ClientError, OSError) as error:
        return type(error).__name__


async def _read_again(session: aiohttp.ClientSession, answers: Answers, path: str) -> None:
    while True:
        async with session.get(path) as reply:
            await reply.read()
            answers[str(reply.status)] += 1


async def _half_upload(session: aiohttp.ClientSession, answers: Answers) -> None:
    async def half() -> object:
        yield b"x" * _HALF
        await asyncio.sleep(3600)

    headers = {"Content-Type": "application/json", "Content-Length": str(2 * _HALF - 1000)}
    while True:
        try:
            async with session.post("/generate", data=half(), headers=headers) as reply:
                answers[str(reply.status)] += 1
        except (aiohttp.ClientError, OSError) as error:
            answers[type(error).__name__] += 1
        await asyncio.sleep(1.0)
