"""Patches to BentoML: for each, the fault, the version that has it, and the replacement.

tests/test_bentoml_compat.py fails when BentoML no longer needs one of them. Code that only configures or wraps BentoML
is not here: api/middleware/access_log.py, api/errors.py and api/openapi/pages.py say what they replace.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from bentoml._internal.server.http import instruments, traffic
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.errors import error_response
from blip2_serve.errors import DeadlineExceeded

Middleware = Callable[..., Callable[[Scope, Receive, Send], Awaitable[None]]]

# BentoML's own classes, kept because `apply` replaces them.
BENTOML_TIMEOUT: Middleware = traffic.TimeoutMiddleware
BENTOML_METRICS: Middleware = instruments.RunnerTrafficMetricsMiddleware


def apply(metered_paths: Iterable[str]) -> None:
    """Replace two middleware classes before BentoML builds its application; meter only `metered_paths`."""
    traffic.TimeoutMiddleware = Timeout
    instruments.RunnerTrafficMetricsMiddleware = partial(
        MeteredRoutes, metered=BENTOML_METRICS, paths=frozenset(metered_paths)
    )


class Timeout:
    """ASGI middleware: answer 504 when no answer has begun within `timeout` seconds.

    BentoML 1.4.40's TimeoutMiddleware never cancels its timers: each keeps its request's context, 6 KB, in the event
    loop until the timeout has passed. At 100 requests a second and an hour's timeout that is 2 GB.
    """

    def __init__(self, app: ASGIApp, timeout: float) -> None:
        self._app = app
        self._timeout_s = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass through every answer that begins in time."""
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


class MeteredRoutes:
    """ASGI middleware: apply the middleware `metered` only to requests for `paths`.

    BentoML 1.4.40's RunnerTrafficMetricsMiddleware starts a new series for every requested path, and Prometheus keeps
    each series for ever, in memory and in the files that its processes share.
    """

    def __init__(self, app: ASGIApp, metered: Middleware, paths: frozenset[str], **options: Any) -> None:
        self._app = app
        self._metered = metered(app, **options)
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, metered or not."""
        app = self._metered if scope.get("path") in self._paths else self._app
        await app(scope, receive, send)
