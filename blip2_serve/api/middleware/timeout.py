"""The traffic timeout, with a timer that ends with its request.

BentoML 1.4.40's TimeoutMiddleware never cancels its timers: each keeps its request's context, 6 KB, in the event loop
until the timeout has passed. At 100 requests a second and an hour's timeout that is 2 GB.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.errors import error_response
from blip2_serve.errors import DeadlineExceeded


class Timeout:
    """ASGI middleware: 504 where no answer has begun within `timeout` seconds; takes BentoML's class's place."""

    def __init__(self, app: ASGIApp, timeout: float) -> None:
        self._app = app
        self._timeout_s = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through that begins in time."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._timeout_s) as limit:

                async def send_in_time(message: Message) -> None:
                    limit.reschedule(None)
                    await send(message)

                await self._app(scope, receive, send_in_time)
        except TimeoutError:
            if not limit.expired():
                raise
            late = DeadlineExceeded(f"No answer began within {self._timeout_s:g} s: try again later.")
            await error_response(late)(scope, receive, send)
