"""Places that clients take in turn: of those that wait, whoever has had least of them comes first."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from blip2_serve.engine.shares import Shares


class FairGate:
    """Lets at most `num_places` in at a time, and of one client at most one fewer: the next client finds a place.

    Work is the time spent inside. It belongs to one event loop.
    """

    def __init__(self, num_places: int) -> None:
        self._num_free = num_places
        self._most = max(1, num_places - 1)
        self._inside: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._shares = Shares()

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """Wait for a place and keep it until the context exits."""
        self._shares.enter(client)
        try:
            await self._wait(client)
            began = time.monotonic()
            try:
                yield
            finally:
                self._shares.charge(client, time.monotonic() - began)
                self._inside[client] -= 1
                self._num_free += 1
        finally:
            self._inside += Counter()  # forgets clients that are not inside
            self._shares.leave(client)
            self._let_in()

    async def _wait(self, client: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave_line(client, turn)
            else:  # it was let in before it could hear of it
                self._inside[client] -= 1
                self._num_free += 1
            raise

    def _let_in(self) -> None:
        while self._num_free:
            client = self._shares.first(name for name in self._waiting if self._inside[name] < self._most)
            if client is None:
                return
            turn = self._waiting[client][0]
            self._leave_line(client, turn)
            if not turn.cancelled():
                self._inside[client] += 1
                self._num_free -= 1
                turn.set_result(None)

    def _leave_line(self, client: str, turn: asyncio.Future[None]) -> None:
        line = self._waiting.get(client, deque())
        if turn in line:
            line.remove(turn)
            if not line:
                del self._waiting[client]
