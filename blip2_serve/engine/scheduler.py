"""Chooses the sequences that start: first come, first served, with a bounded number of exceptions. No torch."""

from collections import deque
from collections.abc import Iterable

from blip2_serve.engine.cache.rows import RowBooks
from blip2_serve.engine.sequence import SequenceState

MAX_OVERTAKES = 16


class Scheduler:
    """The queue of sequences whose image tokens are there and that wait for cache rows.

    Where the head does not fit, smaller sequences behind it may go first, but only MAX_OVERTAKES of them: then
    all wait until the head has its rows. So nothing starves, a sixteen-beam request included.
    """

    def __init__(self, books: RowBooks, max_prefill_tokens: int) -> None:
        self._books = books
        self._max_prefill_tokens = max_prefill_tokens
        self.queue: deque[SequenceState] = deque()
        self._num_overtakes = 0

    def add(self, sequence: SequenceState) -> None:
        """Queue a sequence behind all others."""
        self.queue.append(sequence)

    def put_back(self, sequences: Iterable[SequenceState]) -> None:
        """Requeue sequences that were admitted but found no memory; they are first again, in their order."""
        self.queue.extendleft(reversed(list(sequences)))

    def remove(self, sequence: SequenceState) -> None:
        """Remove a sequence from the queue; raises ValueError if it is not in it."""
        is_head = bool(self.queue) and sequence is self.queue[0]
        self.queue.remove(sequence)
        if is_head:
            self._num_overtakes = 0

    def admit(self) -> list[SequenceState]:
        """The sequences that start now, each with its slot booked: one, or up to `max_prefill_tokens` of prefix."""
        admitted: list[SequenceState] = []
        if not self._books.free_rows:
            return admitted
        budget = self._max_prefill_tokens
        for sequence in list(self.queue):
            is_head = sequence is self.queue[0]
            if admitted and sequence.prefix.num_cells > budget:
                break
            if not is_head and self._num_overtakes >= MAX_OVERTAKES:
                break
            if not self._books.admit(sequence.shape):
                continue
            self.queue.remove(sequence)
            self._num_overtakes = 0 if is_head else self._num_overtakes + 1
            admitted.append(sequence)
            budget -= sequence.prefix.num_cells
        return admitted
