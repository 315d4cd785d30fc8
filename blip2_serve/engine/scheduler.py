"""Chooses the sequences that start, and those that take part in a step, by fair shares between clients. No torch."""

from collections import deque
from collections.abc import Iterable, Iterator

from blip2_serve.engine.cache.rows import BlockShape, RowBooks
from blip2_serve.engine.sequence import SequenceState
from blip2_serve.engine.shares import Shares, leaves_room

MAX_OVERTAKES = 16
# So many behind one that does not fit are looked at in a step, however long the queue.
MAX_LOOKS = 16


class _Client:
    """A client's sequences, first come first served, and what its running ones own."""

    def __init__(self) -> None:
        self.queue: deque[SequenceState] = deque()
        self.running: dict[SequenceState, None] = {}  # in the order of their start
        self.num_rows = 0
        self.num_cells = 0

    def own(self, shape: BlockShape, num_blocks: int) -> None:
        self.num_rows += num_blocks * shape.num_rows
        self.num_cells += num_blocks * shape.cells


class Scheduler:
    """The sequences whose image tokens are there: those that wait for cache rows, and those that run.

    Of all clients the one that has had least comes first, and none takes the last rows or cells, so that whoever comes
    next finds some. Where the first sequence does not fit, smaller ones behind it may go first, but only MAX_OVERTAKES
    of them: then all wait until it has its rows. So nothing starves, a sixteen-beam request included.

    While several clients are here, a client with more than `fair_rows` running has its youngest sequences left out of
    a step, which shortens the step for the others: their rows pause, and go on from where they stood.
    """

    def __init__(self, books: RowBooks, max_prefill_tokens: int, fair_rows: int, shares: Shares | None = None) -> None:
        self._books = books
        self._max_prefill_tokens = max_prefill_tokens
        self._fair_rows = fair_rows
        self._shares = shares or Shares()
        self._clients: dict[str, _Client] = {}
        self._blocked: SequenceState | None = None  # the first in line, if there was no room for it
        self._num_overtakes = 0
        self.num_queued = 0

    def add(self, sequence: SequenceState) -> None:
        """Queue a sequence behind all others of its client."""
        client = sequence.request.client
        self._shares.enter(client)
        self._clients.setdefault(client, _Client()).queue.append(sequence)
        self.num_queued += 1

    def put_back(self, sequences: Iterable[SequenceState]) -> None:
        """Requeue sequences that were admitted but found no memory; they are first again, in their order."""
        for sequence in reversed(list(sequences)):
            client = self._clients[sequence.request.client]
            del client.running[sequence]
            client.own(sequence.shape, -1)
            client.queue.appendleft(sequence)
            self.num_queued += 1

    def remove(self, sequence: SequenceState) -> None:
        """Remove a sequence that waits or runs; raises ValueError if it does neither."""
        name = sequence.request.client
        client = self._clients.get(name, _Client())
        if sequence in client.running:
            del client.running[sequence]
            client.own(sequence.shape, -1)
        else:
            client.queue.remove(sequence)
            self.num_queued -= 1
        self._shares.leave(name)
        if not client.queue and not client.running:
            del self._clients[name]

    def admit(self) -> list[SequenceState]:
        """The sequences that start now, each with its slot booked: one, or up to `max_prefill_tokens` of prefix."""
        admitted: list[SequenceState] = []
        if not self._books.free_rows or not self.num_queued:
            return admitted
        budget, blocked, num_looks = self._max_prefill_tokens, None, 0
        for sequence in self._in_line():
            if admitted and sequence.prefix.num_cells > budget:
                break
            num_looks += blocked is not None
            if blocked and (self._num_overtakes >= MAX_OVERTAKES or num_looks > MAX_LOOKS):
                break
            if self._books.admit(sequence.shape):
                self._start(sequence)
                self._num_overtakes += blocked is not None
                admitted.append(sequence)
                budget -= sequence.prefix.num_cells
            elif not blocked:
                blocked = self._block(sequence)
        return admitted

    def paused(self) -> set[SequenceState]:
        """The running sequences to leave out of this step; the others' rows are charged to their clients."""
        paused: set[SequenceState] = set()
        contended = self._shares.contended
        for name, client in self._clients.items():
            late = self._beyond_share(client) if contended else []
            paused.update(late)
            self._shares.charge(name, client.num_rows - sum(sequence.shape.num_rows for sequence in late))
        return paused

    def _in_line(self) -> Iterator[SequenceState]:
        """Queued sequences that may start if they fit, in fair order, which changes as they start."""
        waiting = {name: iter(list(client.queue)) for name, client in self._clients.items() if client.queue}
        contended = self._shares.contended
        while (name := self._shares.first(waiting)) is not None:
            sequence = next(waiting[name], None)
            if sequence is None or not self._may_start(sequence, self._clients[name], contended):
                del waiting[name]
            else:
                yield sequence

    def _may_start(self, sequence: SequenceState, client: _Client, contended: bool) -> bool:
        if not client.running:
            return True
        shape, free_rows = sequence.shape, self._books.free_rows
        if contended and client.num_rows + shape.num_rows > self._fair_rows:
            return False  # it would only be left out of the steps
        free_cells = self._books.max_cells - self._books.live_cells
        if shape.num_rows > free_rows or shape.cells > free_cells:
            return True  # it does not fit, and is first in line until it does
        return leaves_room(client.num_rows, shape.num_rows, free_rows) and leaves_room(
            client.num_cells, shape.cells, free_cells
        )

    def _start(self, sequence: SequenceState) -> None:
        client = self._clients[sequence.request.client]
        client.queue.remove(sequence)
        client.running[sequence] = None
        client.own(sequence.shape, 1)
        self.num_queued -= 1
        self._shares.charge(sequence.request.client, sequence.prefix.num_cells)

    def _block(self, first: SequenceState) -> SequenceState:
        """Count from now on who overtakes the first in line, unless it was first before."""
        if first is not self._blocked:
            self._blocked, self._num_overtakes = first, 0
        return first

    def _beyond_share(self, client: _Client) -> list[SequenceState]:
        """The youngest running sequences, without which `fair_rows` are left, or the oldest sequence alone."""
        if client.num_rows <= self._fair_rows:
            return []
        num_rows, late = 0, []
        for sequence in client.running:
            if num_rows and num_rows + sequence.shape.num_rows > self._fair_rows:
                late.append(sequence)
            else:
                num_rows += sequence.shape.num_rows
        return late
