"""Cancel the work for a caller that disconnects; BentoML lets it run to the end."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.requests import Request

from blip2_serve.errors import ClientGone

ResultT = TypeVar("ResultT")


async def while_connected(request: Request, work: Coroutine[object, object, ResultT]) -> ResultT:
    """Await `work`; cancel it when the caller of `request` disconnects. The request body must have been read.

    Raises:
        ClientGone: the caller left; nobody will read the answer.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone("The caller went away.")
        return await working
    finally:
        watching.cancel()
        working.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
