"""Callers: a closed loop of so many clients, or an open loop of arrivals at random, and what they measured."""

import asyncio
import json
import math
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import aiohttp

from benchmarks.measure.measured import Measured, percentile_99
from benchmarks.measure.posts import Post
from benchmarks.measure.processes import Processes
from benchmarks.measure.workloads import Call

_PATIENCE = aiohttp.ClientTimeout(total=600)
# The answers of one batch come within this time of each other.
_BURST_S = 0.1


@dataclass(frozen=True)
class Target:
    """A server that runs: where, whose processes, and how a call is put to it."""

    name: str
    url: str
    processes: Processes
    post: Callable[[Call], Post]


@dataclass(frozen=True)
class Answered:
    """One call: when it was due and when its first token and all of it were there, by the monotonic clock."""

    call: Call
    due: float
    first_token: float
    done: float

    @property
    def latency_s(self) -> float:
        """From when it was due."""
        return self.done - self.due


@dataclass(frozen=True)
class Driven:
    """All that was answered, those whose latency counts, and between which moments is measured."""

    answers: Sequence[Answered]
    counted: Sequence[Answered]
    first: float
    last: float


# Sends a call that was due at a moment.
Send = Callable[[Call, float], Awaitable[Answered]]


def closed_loop(
    target: Target, calls: Iterator[Call], num_clients: int, *, warm_up_s: float, measure_s: float
) -> Measured:
    """`num_clients` callers, each with its next call as soon as it has its answer.

    Measuring starts when each has had one: from then on the queue is as long as it will be. What is answered when
    others have stopped calling does not count.
    """

    async def drive(send: Send) -> Driven:
        answers: list[Answered] = []
        first, begin, unanswered = math.inf, time.monotonic(), num_clients

        async def call() -> None:
            answers.append(await send(next(calls), time.monotonic()))

        async def client() -> None:
            nonlocal first, unanswered
            await call()
            unanswered -= 1
            if not unanswered:
                first = max(time.monotonic() + _BURST_S, begin + warm_up_s)
            while time.monotonic() < first + measure_s:
                await call()

        await asyncio.gather(*(client() for _ in range(num_clients)))
        last = first + measure_s
        return Driven(answers, [answer for answer in answers if first < answer.done <= last], first, last)

    return _run(target, drive)


def open_loop(
    target: Target, calls: Iterator[Call], rate: float, *, seed: str, warm_up_s: float, measure_s: float
) -> Measured:
    """Calls that arrive `rate` times a second at random (Poisson), whether or not earlier ones are answered.

    All that were due while measuring count, however late their answers.
    """
    rng = random.Random(seed)

    async def drive(send: Send) -> Driven:
        sent: list[asyncio.Task[Answered]] = []
        due = begin = time.monotonic()
        last = begin + warm_up_s + measure_s
        while (due := due + rng.expovariate(rate)) < last or len(sent) < 2:  # a rate needs two
            await asyncio.sleep(due - time.monotonic())
            sent.append(asyncio.create_task(send(next(calls), due)))  # type: ignore[arg-type]
        first, answers = begin + warm_up_s, await asyncio.gather(*sent)
        return Driven(answers, [answer for answer in answers if answer.due >= first], first, last)

    return _run(target, drive)


def _run(target: Target, drive: Callable[[Send], Awaitable[Driven]]) -> Measured:
    async def run() -> Driven:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(target.url, connector=connector, timeout=_PATIENCE) as session:

            async def send(call: Call, due: float) -> Answered:
                first_token = await _answer(session, target.name, target.post(call))
                return Answered(call, due, first_token, time.monotonic())

            return await drive(send)

    cpu_before = target.processes.cpu_seconds()
    driven = asyncio.run(run())
    cpu_s = target.processes.cpu_seconds() - cpu_before
    return summary(driven, cpu_s, target.processes.peak_mb())


async def _answer(session: aiohttp.ClientSession, name: str, post: Post) -> float:
    """Wait for the whole answer; returns when the first token was there."""
    async with session.post(post.path, data=post.body, headers={"Content-Type": post.content_type}) as response:
        if response.status != 200:
            raise RuntimeError(f"{name} answered {response.status}: {(await response.text())[:300]}")
        if not post.streams:
            await response.read()
            return time.monotonic()
        moments = [time.monotonic() async for line in response.content if _has_text(line)]
    if not moments:
        raise RuntimeError(f"{name} ended its stream without a word.")
    return moments[0]


def _has_text(line: bytes) -> bool:
    """True for a line of a stream of OpenAI's chunks that brings some of the answer."""
    if not line.startswith(b"data: {"):
        return False
    choices = json.loads(line.removeprefix(b"data: ")).get("choices")
    return bool(choices and choices[0]["delta"].get("content"))


def summary(driven: Driven, cpu_s: float, peak_mb: float) -> Measured:
    """Latencies are of those that count, or of the last answer where none does; CPU is of all.

    The rate is taken between two answers, the last before `first` and the last before `last`, or the very last where
    none came between: batches answer in bursts.
    """
    done = sorted(answer.done for answer in driven.answers)
    before = [moment for moment in done if moment <= driven.first] or done[:1]
    after = [moment for moment in done if moment > before[-1]]
    within = [moment for moment in after if moment <= driven.last] or after
    counted = driven.counted or driven.answers[-1:]
    latencies = [answer.latency_s for answer in counted]
    return Measured(
        requests_per_s=len(within) / (within[-1] - before[-1]),
        p50_s=statistics.median(latencies),
        p99_s=percentile_99(latencies),
        first_token_p50_s=statistics.median(answer.first_token - answer.due for answer in counted),
        short_p50_s=_median([answer.latency_s for answer in counted if answer.call.is_short]),
        later_p50_s=_median([answer.latency_s for answer in counted if answer.call.is_later_turn]),
        cpu_s_per_request=cpu_s / len(driven.answers),
        peak_mb=peak_mb,
    )


def _median(latencies: Sequence[float]) -> float | None:
    return statistics.median(latencies) if latencies else None
