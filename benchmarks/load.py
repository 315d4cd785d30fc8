"""Callers: a closed loop of so many clients, or an open loop of arrivals at random, and what they measured."""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import aiohttp

from benchmarks.targets import Target
from benchmarks.workloads import Call

_PATIENCE = aiohttp.ClientTimeout(total=600)


@dataclass(frozen=True)
class Answered:
    """One call: when it was due and when it was answered, in seconds of the monotonic clock."""

    call: Call
    due: float
    done: float

    @property
    def latency_s(self) -> float:
        """From when it was due."""
        return self.done - self.due


@dataclass(frozen=True)
class Measured:
    """One run: rates per second, latencies and CPU in seconds, memory in megabytes."""

    requests_per_s: float
    p50_s: float
    p99_s: float
    short_p50_s: float
    cpu_s_per_request: float
    resident_mb: float


def closed_loop(
    target: Target, calls: Iterator[Call], num_clients: int, *, warm_up_s: float, measure_s: float
) -> Measured:
    """`num_clients` callers, each with its next call as soon as it has its answer."""

    async def drive(send: Callable[[Call], Awaitable[Answered]], until: float) -> list[Answered]:
        answers: list[Answered] = []

        async def client() -> None:
            while time.monotonic() < until:
                answers.append(await send(next(calls)))

        await asyncio.gather(*(client() for _ in range(num_clients)))
        return answers

    return _run(target, drive, warm_up_s, measure_s)


def open_loop(target: Target, calls: Iterator[Call], rate: float, *, warm_up_s: float, measure_s: float) -> Measured:
    """Calls that arrive `rate` times a second at random (Poisson), whether or not earlier ones are answered."""
    rng = random.Random(0)

    async def drive(send: Callable[[Call], Awaitable[Answered]], until: float) -> list[Answered]:
        sent: list[asyncio.Task[Answered]] = []
        due = time.monotonic()
        while (due := due + rng.expovariate(rate)) < until:
            await asyncio.sleep(due - time.monotonic())
            sent.append(asyncio.ensure_future(send(next(calls))))
        return list(await asyncio.gather(*sent))

    return _run(target, drive, warm_up_s, measure_s)


Drive = Callable[[Callable[[Call], Awaitable[Answered]], float], Awaitable[list[Answered]]]


def _run(target: Target, drive: Drive, warm_up_s: float, measure_s: float) -> Measured:
    async def run() -> tuple[list[Answered], float]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(target.url, connector=connector, timeout=_PATIENCE) as session:

            async def send(call: Call) -> Answered:
                post = target.post(call)
                due = time.monotonic()
                headers = {"Content-Type": post.content_type}
                async with session.post(post.path, data=post.body, headers=headers) as response:
                    text = await response.text()
                    if response.status != 200:
                        raise RuntimeError(f"{target.name} answered {response.status}: {text[:300]}")
                return Answered(call, due, time.monotonic())

            start = time.monotonic()
            return await drive(send, start + warm_up_s + measure_s), start

    cpu_before = target.cpu_seconds()
    answers, start = asyncio.run(run())
    cpu_s = target.cpu_seconds() - cpu_before
    return _summary(answers, start + warm_up_s, start + warm_up_s + measure_s, cpu_s, target.resident_mb())


def _summary(answers: Sequence[Answered], first: float, last: float, cpu_s: float, resident_mb: float) -> Measured:
    """Between two answers, the last before `first` and the last before `last`: batches answer in bursts."""
    done = sorted(answer.done for answer in answers)
    before = [moment for moment in done if moment <= first] or done[:1]
    within = [moment for moment in done if before[-1] < moment <= last] or done[-1:]
    latencies = [answer.latency_s for answer in answers if answer.done > first] or [answers[-1].latency_s]
    short = [answer.latency_s for answer in answers if answer.done > first and answer.call.is_short]
    return Measured(
        requests_per_s=len(within) / (within[-1] - before[-1]),
        p50_s=statistics.median(latencies),
        p99_s=statistics.quantiles(latencies, n=100)[98] if len(latencies) > 1 else latencies[0],
        short_p50_s=statistics.median(short or latencies),
        cpu_s_per_request=cpu_s / len(answers),
        resident_mb=resident_mb,
    )
