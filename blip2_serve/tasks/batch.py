"""Many requests from one caller: bounded, in order, and cancelled together."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from blip2_serve.errors import Blip2Error, Busy, EngineDead

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MAX_AT_ONCE = 16
FEW = 4  # parts of one request


def places(max_queue: int) -> asyncio.Semaphore:
    """Bound the batch pictures in progress to MAX_AT_ONCE and a quarter of the queue, so that others find room."""
    return asyncio.Semaphore(max(1, min(MAX_AT_ONCE, max_queue // 4)))


async def answer_each(
    items: Sequence[ItemT], ask: Callable[[ItemT], Awaitable[ResultT]], gate: asyncio.Semaphore
) -> list[ResultT | Blip2Error]:
    """Ask for each item; returns its result or its own error, in order. Cancelling it cancels the items in progress.

    Raises:
        EngineDead: the model's loop has stopped.
        Busy: none of the items found a place in the queue.
    """

    async def attempt(item: ItemT) -> ResultT | Blip2Error:
        async with gate:
            try:
                return await ask(item)
            except EngineDead:
                raise
            except Blip2Error as error:
                return error

    results = await together([attempt(item) for item in items])
    busy = [result for result in results if isinstance(result, Busy)]
    if len(busy) == len(items):
        raise busy[0]
    return results


async def a_few_at_once(work: Sequence[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Return the results in order, with few at a time in the engine's queue, where every request takes a place."""
    places = asyncio.Semaphore(FEW)

    async def in_turn(each: Coroutine[Any, Any, ResultT]) -> ResultT:
        async with places:
            return await each

    try:
        return await together([in_turn(each) for each in work])
    finally:
        for each in work:
            if inspect.getcoroutinestate(each) == inspect.CORO_CREATED:
                each.close()  # it never had its turn


async def together(work: Sequence[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Return the results in order; when one fails or the caller is cancelled, cancel the others."""
    running = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*running)
    finally:
        for each in running:
            each.cancel()
