"""A server that answers after a fixed time, one call or many at once: its rate and latency are known beforehand."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from support.serving import free_port

STREAM = (
    b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "a "}}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "star"}}]}\n\n',
    b"data: [DONE]\n\n",
)


class FakeServer:
    """Answers `/` after `seconds`, at most `at_once` calls at a time, and `/stream` with STREAM, a pause between."""

    def __init__(self, seconds: float, at_once: int) -> None:
        self._seconds, self._gate = seconds, asyncio.Semaphore(at_once)

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        async with self._gate:
            await asyncio.sleep(self._seconds)
        return web.Response(text="a star")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in STREAM:
            await asyncio.sleep(self._seconds)
            await response.write(event)
        return response


@contextmanager
def serve_fake(seconds: float, at_once: int) -> Iterator[str]:
    """Serve in a thread of its own; yields the URL."""
    port, loop, ready = free_port(), asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def run() -> None:
        fake, app = FakeServer(seconds, at_once), web.Application()
        app.add_routes([web.post("/", fake.answer), web.post("/stream", fake.stream)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
