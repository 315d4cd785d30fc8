"""A crowd: callers at addresses of their own, each with its next request at once, or all arriving at random moments."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp

from benchmarks.measure.measured import percentile_99
from benchmarks.measure.posts import Post

NUM_ADDRESSES = 16
_FIRST_ADDRESS = 10

VANISHED = "vanished"
"""The status of a caller that did not wait for its answer."""


@dataclass(frozen=True)
class Errand:
    """A request, and for how many seconds its caller waits."""

    post: Post
    patience_s: float = 120.0


@dataclass(frozen=True)
class Answered:
    """How a request ended, by status, and when it was due and done by the monotonic clock."""

    status: str
    due: float
    done: float

    @property
    def seconds(self) -> float:
        """From when it was due."""
        return self.done - self.due


Run = Callable[[Errand], Awaitable[Answered]]


def closed_loop(url: str, errands: Iterator[Errand], num_callers: int, seconds: float) -> list[Answered]:
    """`num_callers` callers, each with its next request as soon as it has its answer."""

    async def drive(run: Run) -> list[Answered]:
        answers: list[Answered] = []
        until = time.monotonic() + seconds

        async def call() -> None:
            while time.monotonic() < until:
                answers.append(await run(next(errands)))

        await asyncio.gather(*(call() for _ in range(num_callers)))
        return answers

    return asyncio.run(_with_sessions(url, drive))


def open_loop(url: str, errands: Iterator[Errand], rate: float, seconds: float) -> list[Answered]:
    """Requests that arrive `rate` times a second at random (Poisson), whether or not earlier ones are answered."""
    rng = random.Random(0)

    async def drive(run: Run) -> list[Answered]:
        due = time.monotonic()
        until, sent = due + seconds, []
        while (due := due + rng.expovariate(rate)) < until:
            await asyncio.sleep(due - time.monotonic())
            sent.append(asyncio.ensure_future(run(next(errands))))
        return list(await asyncio.gather(*sent))

    return asyncio.run(_with_sessions(url, drive))


async def _with_sessions(url: str, drive: Callable[[Run], Awaitable[list[Answered]]]) -> list[Answered]:
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(_session(url, number)) for number in range(NUM_ADDRESSES)]
        turn = itertools.count()
        return await drive(lambda errand: _run(sessions[next(turn) % NUM_ADDRESSES], errand))


def _session(url: str, number: int) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, local_addr=(f"127.0.0.{_FIRST_ADDRESS + number}", 0))
    return aiohttp.ClientSession(url, connector=connector)


async def _run(session: aiohttp.ClientSession, errand: Errand) -> Answered:
    post, due = errand.post, time.monotonic()
    try:
        async with (
            asyncio.timeout(errand.patience_s),
            session.post(post.path, data=post.body, headers={"Content-Type": post.content_type}) as reply,
        ):
            await reply.read()
            status = str(reply.status)
    except TimeoutError:
        status = VANISHED
    except (aiohttp.ClientError, OSError) as error:
        status = type(error).__name__
    return Answered(status, due, time.monotonic())


def rate_of(answers: Sequence[Answered], status: str = "200") -> float:
    """Answers of this status a second, from the first request's start until all had been sent."""
    first, last = min(each.due for each in answers), max(each.due for each in answers)
    return sum(each.status == status and each.done <= last for each in answers) / (last - first)


def latencies_ms(answers: Sequence[Answered], status: str = "200") -> dict[str, float]:
    """Median, 95th and 99th percentile of those with this status; empty for none."""
    seconds = sorted(each.seconds for each in answers if each.status == status)
    if not seconds:
        return {}
    p50, p95 = seconds[len(seconds) // 2], seconds[int(0.95 * (len(seconds) - 1))]
    return {
        name: round(value * 1000, 1) for name, value in (("p50", p50), ("p95", p95), ("p99", percentile_99(seconds)))
    }


def statuses(answers: Sequence[Answered]) -> dict[str, int]:
    """Count the answers by status."""
    return dict(sorted(Counter(each.status for each in answers).items()))
