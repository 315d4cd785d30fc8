"""Retrieval requests whose pictures are there: their texts are read some dozens at a time, in turn. No torch."""

from blip2_serve.engine.retrieval.sequence import RetrievalState
from blip2_serve.engine.sequence import Stage
from blip2_serve.engine.shares import Shares

# Requests of one client in a micro-batch while several clients are here.
FAIR_REQUESTS = 1
# Texts are padded to the longest: a micro-batch has fewer of them where that is longer than a caption.
USUAL_TOKENS = 32


class RetrievalLine:
    """Requests with texts to read; a micro-batch has at most `max_texts`, or one request.

    The client that has had fewest tokens read comes first, and a client's own requests in their order.
    """

    def __init__(self, max_texts: int, shares: Shares | None = None) -> None:
        self._max_texts = max_texts
        self._shares = shares or Shares()
        self._lines: dict[str, dict[RetrievalState, None]] = {}

    def add(self, sequence: RetrievalState) -> None:
        """Queue a request behind all others of its client."""
        sequence.stage = Stage.QUEUED
        self._shares.enter(sequence.request.client)
        self._lines.setdefault(sequence.request.client, {})[sequence] = None

    def remove(self, sequence: RetrievalState) -> None:
        """Forget a request that waits."""
        client = sequence.request.client
        del self._lines[client][sequence]
        if not self._lines[client]:
            del self._lines[client]
        self._shares.leave(client)

    def next_batch(self) -> list[RetrievalState]:
        """Pop the requests to serve now; they are RUNNING."""
        batch: list[RetrievalState] = []
        num_texts, longest, num_had = 0, USUAL_TOKENS, dict.fromkeys(self._lines, 0)
        most = FAIR_REQUESTS if self._shares.contended else self._max_texts
        while (client := self._shares.first(name for name in self._lines if num_had[name] < most)) is not None:
            sequence = next(iter(self._lines[client]))
            num_texts, longest = num_texts + sequence.num_texts, max(longest, *map(len, sequence.request.texts))
            if batch and num_texts * longest > self._max_texts * USUAL_TOKENS:
                break
            num_had[client] += 1
            self._shares.charge(client, sum(map(len, sequence.request.texts)))
            self.remove(sequence)
            sequence.stage = Stage.RUNNING
            batch.append(sequence)
        return batch
