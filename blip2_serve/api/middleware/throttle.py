"""Slow down clients that ask much for nothing: documents, probes, what is refused; and those that send very fast.

Such a request is cheap, but thousands a second leave the event loop no time for others. Requests to the model that are
answered are not slowed down here: their work is shared in the queues. Only their bytes are, where one client's many
uploads at once would keep the event loop busy.
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
# Bytes that a client may send at once, and a second after that: more than a line of a gigabit a second carries.
UPLOAD_BURST = 64e6
UPLOAD_PER_S = 128e6
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
        self._allowances = _Allowances(clock, BURST, PER_S)
        self._uploads = _Allowances(clock, UPLOAD_BURST, UPLOAD_PER_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, perhaps later, and its body no faster than it may come."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client, is_free = current_client.get(), scope["method"] == "POST" and scope["path"] in self._paths
        cost = 0.0 if is_free else 1.0
        wait_s = self._allowances.wait_s(client, cost)
        if wait_s > _MAX_WAIT_S:
            busy = Busy("This client asks too often: try again later, and less often.", retry_after_s=wait_s)
            await error_response(busy)(scope, receive, send)
            return
        if cost:
            self._allowances.take(client, cost)
        if wait_s:
            await asyncio.sleep(wait_s)
        unhurried = self._unhurried(client, receive)
        await self._app(scope, unhurried, self._counting(scope, client, send) if is_free else send)

    def _unhurried(self, client: str, receive: Receive) -> Receive:
        async def unhurried() -> Message:
            message = await receive()
            num_bytes = len(message.get("body", b""))
            if num_bytes:
                wait_s = self._uploads.wait_s(client, num_bytes)
                self._uploads.take(client, num_bytes)
                if wait_s:
                    await asyncio.sleep(wait_s)
            return message

        return unhurried

    def _counting(self, scope: Scope, client: str, send: Send) -> Send:
        async def counting(message: Message) -> None:
            if 400 <= message.get("status", 0) < 500:
                self._allowances.take(client, 1.0 + declared_bytes(scope) / _BYTES_EACH)
            await send(message)

        return counting


class _Allowances:
    """The units left to each client, of `burst` at most and `per_s` more a second; below zero it has to wait."""

    def __init__(self, clock: Callable[[], float], burst: float, per_s: float) -> None:
        self._clock = clock
        self._burst = burst
        self._per_s = per_s
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # allowance at a moment, oldest first

    def wait_s(self, client: str, cost: float) -> float:
        """Return how long something of this cost has to wait."""
        return max(0.0, (cost - self._left_now(client)) / self._per_s)

    def take(self, client: str, cost: float) -> None:
        """Take from a client's allowance, also what it has not."""
        self._left[client] = (self._left_now(client) - cost, self._clock())
        self._left.move_to_end(client)
        if len(self._left) > _MAX_REMEMBERED:
            self._left.popitem(last=False)

    def _left_now(self, client: str) -> float:
        left, since = self._left.get(client, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - since) * self._per_s)
