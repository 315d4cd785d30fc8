"""Admit requests by the work they stand for: what cannot be done soon is refused at once, not kept waiting.

Work is counted in tokens through the language model; a picture counts as IMAGE_WORK of them. How much of it is done in
a second is measured while the server runs.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blip2_serve.engine.shares import leaves_room
from blip2_serve.errors import Busy
from blip2_serve.options import DecodingOptions

# A ViT-g and a Q-Former take about as long for a picture as OPT-2.7B for so many tokens.
IMAGE_WORK = 100
PREFIX_WORK = 48
CHEAPEST = PREFIX_WORK + 1
# Fewer requests than this are always taken: one at a time says little about how fast many together are.
MIN_REQUESTS = 16
# For so long after a refusal its client's next requests are refused unread unless the same would fit now.
_REMEMBERED_S = 1.0
_MAX_REMEMBERED = 4096
_HALF_LIFE_S = 10.0
_MIN_BUSY_S = 1.0


def work_of(options: DecodingOptions, *, has_picture: bool) -> int:
    """The most work of a request: its picture, its prefix, and every token of its rows."""
    num_rows = max(options.num_beams, options.num_return_sequences)
    return IMAGE_WORK * has_picture + PREFIX_WORK + num_rows * options.max_new_tokens


class Admission:
    """All requests that are admitted and not answered, by client; it belongs to one event loop.

    At most `max_queue` of them wait (`num_running` says how many do not), and all together are at most `max_s` seconds
    of work. Of both, no client may have so much that nothing is left for the next (see `shares.leaves_room`), and what
    others have keeps no client from its equal part: clients take turns, so it does not wait behind them.
    """

    def __init__(
        self,
        max_queue: int,
        max_s: float,
        num_running: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_queue = max_queue
        self._max_s = max_s
        self._num_running = num_running
        self._clock = clock
        self._rate = _Rate(clock)
        self._work: Counter[str] = Counter()
        self._num_requests: Counter[str] = Counter()
        self._refused: dict[str, tuple[int, float]] = {}  # the least work refused lately, and when; oldest first

    def check_unread(self, client: str) -> None:
        """Raise Busy unless this client may have one more: as cheap as can be, or as it was refused a moment ago.

        Without the latter most requests of an overload are read and then refused: there is nearly always room for the
        cheapest. What others were refused does not count: a stranger could keep everybody out with what never fits.
        """
        self._check(client, max(CHEAPEST, self._refused_lately(client)), 1)

    def check(self, client: str, work: int, num_requests: int = 1) -> None:
        """Raise Busy unless this client may have `num_requests` more that stand for so much work."""
        try:
            self._check(client, work, num_requests)
        except Busy:
            self._remember(client, work)
            raise

    def _remember(self, client: str, work: int) -> None:
        least = min(work, self._refused_lately(client) or work)
        self._refused.pop(client, None)
        self._refused[client] = (least, self._clock())
        if len(self._refused) > _MAX_REMEMBERED:
            del self._refused[next(iter(self._refused))]

    def _refused_lately(self, client: str) -> int:
        work, moment = self._refused.get(client, (0, -math.inf))
        return work if self._clock() - moment < _REMEMBERED_S else 0

    def _check(self, client: str, work: int, num_requests: int) -> None:
        all_requests = self._num_requests.total()
        num_free = self._max_queue - max(0, all_requests - self._num_running())
        if num_free < 1 or not leaves_room(self._num_requests[client], 1, num_free):
            raise Busy(f"{self._max_queue} requests are waiting: try again in a second.", retry_after_s=1.0)
        rate, waiting = self._rate.per_s, self._work.total()
        if rate is None or all_requests + num_requests <= MIN_REQUESTS or not waiting:
            return
        most = rate * self._max_s
        if self._work[client] + work <= most / max(2, len({*self._work, client})):
            return
        room = most - waiting
        if room < work or not leaves_room(self._work[client], work, room):
            wait_s = min(max((work - room) / rate, 1.0), self._max_s)
            raise Busy(
                f"The server has enough to do for {self._max_s:g} s: try again in {wait_s:.0f} s.",
                retry_after_s=wait_s,
            )

    def enter(self, client: str, work: int, num_requests: int = 1) -> "Admitted":
        """Admit a request; its `leave` is due when it ends.

        Raises:
            Busy: there is enough to do.
        """
        self.check(client, work, num_requests)
        self._rate.note(is_busy=bool(self._num_requests))
        self._work[client] += work
        self._num_requests[client] += num_requests
        return Admitted(self, client, work, num_requests, self._clock())

    @contextmanager
    def admitted(self, client: str, work: int, num_requests: int = 1) -> Iterator[None]:
        """Admit a request until the context exits; its work counts as done unless an exception ends it."""
        ticket = self.enter(client, work, num_requests)
        try:
            yield
            ticket.is_answered = True
        finally:
            ticket.leave()

    def _leave(self, ticket: "Admitted") -> None:
        self._rate.note(is_busy=True, done=ticket.work if ticket.is_answered else self._work_of_given_up(ticket))
        for counter, amount in ((self._work, ticket.work), (self._num_requests, ticket.num_requests)):
            counter[ticket.client] -= amount
            if not counter[ticket.client]:
                del counter[ticket.client]

    def _work_of_given_up(self, ticket: "Admitted") -> float:
        """Take it that all have had their part of the rate, by their work: who gives up must not change the rate."""
        part = ticket.work / self._work.total()
        had = (self._rate.per_s or 0.0) * (self._clock() - ticket.entered) * part
        return min(ticket.work, had)


@dataclass(slots=True, eq=False)
class Admitted:
    """A place in the server; `leave` may be called again."""

    _admission: Admission
    client: str
    work: int
    num_requests: int
    entered: float
    is_answered: bool = False
    _has_left: bool = False

    def leave(self) -> None:
        """Give the place back."""
        if not self._has_left:
            self._has_left = True
            self._admission._leave(self)


class _Rate:
    """Work done in a second in which there was some to do; what was half a minute ago hardly counts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._noted = clock()
        self._done = self._busy_s = 0.0

    @property
    def per_s(self) -> float | None:
        """None until enough has been seen."""
        return self._done / self._busy_s if self._done and self._busy_s >= _MIN_BUSY_S else None

    def note(self, *, is_busy: bool, done: float = 0.0) -> None:
        """Count the time since the last note if there was work to do, and the work that is done now."""
        now = self._clock()
        if is_busy:
            faded = 0.5 ** ((now - self._noted) / _HALF_LIFE_S)
            self._busy_s = self._busy_s * faded + now - self._noted
            self._done *= faded
        self._noted = now
        self._done += done
