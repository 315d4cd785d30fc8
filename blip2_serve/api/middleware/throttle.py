"""Slow down clients that ask much for nothing: documents, probes, and what is refused.

Such a request is cheap, but thousands a second leave the event loop no time for others. Requests to the model that are
answered are not slowed down here: their work is shared in the queues.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip2_serve.api.errors import error_response
from blip2_serve.api.middleware.body_limit import declared_bytes
from blip2_serve.clients import current_client
from blip2_serve.errors import Busy

# Of a client: so many at once, as a page with its scripts takes, and so many a second after that.
BURST = 200.0
PER_S = 50.0
# What is refused costs by its size as well: 50 MB a second.
_BYTES_EACH = 1_000_000
# Whoever would wait longer is answered 429.
_MAX_WAIT_S = 5.0
_MAX_REMEMBERED = 4096


class Throttle:
    """ASGI middleware: delay a client's requests once it has had more than BURST and PER_S.

    Requests to `paths` are free, but those that are refused count afterwards.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._paths = frozenset(paths)
        self._allowances = _Allowances(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, perhaps later."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client, is_free = current_client.get(), scope["method"] == "POST" and scope["path"] in self._paths
        wait_s = self._allowances.wait_s(client, 0.0 if is_free else 1.0)
        if wait_s > _MAX_WAIT_S:
            busy = Busy("This client asks too often: try again later, and less often.", retry_after_s=wait_s)
            await error_response(busy)(scope, receive, send)
            return
        if wait_s:
            await asyncio.sleep(wait_s)
        await self._app(scope, receive, self._counting(scope, client, send) if is_free else send)

    def _counting(self, scope: Scope, client: str, send: Send) -> Send:
        async def counting(message: Message) -> None:
            if 400 <= message.get("status", 0) < 500:
                self._allowances.take(client, 1.0 + declared_bytes(scope) / _BYTES_EACH)
            await send(message)

        return counting


class _Allowances:
    """What each client may still have; below zero it has to wait."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # allowance at a moment, oldest first

    def wait_s(self, client: str, cost: float) -> float:
        """Return how long a request of this cost has to wait; it is paid for unless that is too long."""
        wait_s = max(0.0, (cost - self._left_now(client)) / PER_S)
        if cost and wait_s <= _MAX_WAIT_S:
            self.take(client, cost)
        return wait_s

    def take(self, client: str, cost: float) -> None:
        """Take from a client's allowance, also what it has not."""
        self._left[client] = (self._left_now(client) - cost, self._clock())
        self._left.move_to_end(client)
        if len(self._left) > _MAX_REMEMBERED:
            self._left.popitem(last=False)

    def _left_now(self, client: str) -> float:
        left, since = self._left.get(client, (BURST, self._clock()))
        return min(BURST, left + (self._clock() - since) * PER_S)
