"""Fair shares between clients: whoever has had least comes first. No torch.

The rule is the virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): work
counts as it is done, and who arrives starts level with the least served of those who are there. So nobody gains by
waiting, by leaving or by asking more at once, and a client that is alone has everything.
"""

import time
from collections.abc import Callable, Iterable

# A client that pauses for so long between two requests still counts as one to be considerate of.
PATIENCE_S = 1.0
MAX_REMEMBERED = 4096
# A client may own so many times what is free. Alone it gets 8/9 of a resource; whoever comes next finds the rest.
# (Dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6, 1998.)
MAX_TIMES_FREE = 8


def leaves_room(owned: float, wanted: float, free: float) -> bool:
    """True if a client that owns `owned` of a resource may have `wanted` more, where `free` is left for all."""
    return owned + wanted <= MAX_TIMES_FREE * free


class Shares:
    """Work had by each client of one queue, in the queue's own unit.

    `enter` and `leave` are called once for each request, `charge` as work is done for it. One thread owns it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._num_requests: dict[str, int] = {}
        self._had: dict[str, float] = {}
        self._left: dict[str, float] = {}  # when the last request of a client that is gone left, oldest first
        self._floor = 0.0

    def enter(self, client: str) -> None:
        """Count one more request of this client."""
        if client not in self._num_requests:
            self._had[client] = max(self._had.get(client, 0.0), self._level())
            self._left.pop(client, None)
        self._num_requests[client] = self._num_requests.get(client, 0) + 1

    def leave(self, client: str) -> None:
        """Count one request less; what its client has had is remembered."""
        self._level()
        self._num_requests[client] -= 1
        if not self._num_requests[client]:
            del self._num_requests[client]
            self._left[client] = self._clock()
            if len(self._left) > MAX_REMEMBERED:
                longest_gone = next(iter(self._left))
                del self._left[longest_gone], self._had[longest_gone]

    def charge(self, client: str, work: float) -> None:
        """Add work done for a client that is here."""
        self._had[client] += work

    def first(self, clients: Iterable[str]) -> str | None:
        """The client that has had least; of equals, the one with the fewest requests, then the first."""
        return min(clients, key=lambda client: (self._had[client], self._num_requests[client]), default=None)

    @property
    def contended(self) -> bool:
        """True if more than one client is here, or was until a moment ago."""
        if len(self._num_requests) > 1:
            return True
        since = self._clock() - PATIENCE_S
        others = sum(1 for left in list(self._left.values())[-2:] if left >= since)
        return len(self._num_requests) + others > 1

    def _level(self) -> float:
        """The share that the least served client here has had; as it was, where nobody is."""
        if self._num_requests:
            self._floor = min(self._had[client] for client in self._num_requests)
        return self._floor
