"""Threads that encode micro-batches of pictures or texts while the loop decodes; without threads, the loop does it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

JobT = TypeVar("JobT")
DoneT = TypeVar("DoneT")


class Encoders(Generic[JobT, DoneT]):
    """Hands each micro-batch to one of `num_threads` threads; `on_done` is called there when one is finished.

    `encode` returns what was made of each job, or the reason why there is nothing. `num_begun` micro-batches have begun
    and are not collected yet. All methods but `stop` belong to the loop's thread, which encodes by itself where there
    are no threads. The threads are daemons: one that hangs in the model does not keep the process from ending.
    """

    def __init__(
        self,
        encode: Callable[[list[JobT]], dict[JobT, DoneT | Exception]],
        num_threads: int,
        on_done: Callable[[], None],
        name: str = "encoder",
    ) -> None:
        self._encode = encode
        self._num_threads = num_threads
        self._on_done = on_done
        self._name = name
        self._threads: list[threading.Thread] = []
        self._todo: SimpleQueue[list[JobT] | None] = SimpleQueue()
        self._done: deque[dict[JobT, DoneT | Exception] | Exception] = deque()
        self.num_begun = 0

    def encode(self, next_jobs: Callable[[], list[JobT]]) -> dict[JobT, DoneT | Exception]:
        """Collect all that is encoded, and begin with as many micro-batches as there is room for.

        Without threads, encode one micro-batch now. Raises the exception that ended a whole micro-batch.
        """
        encoded: dict[JobT, DoneT | Exception] = {}
        if not self._num_threads:
            jobs = next_jobs()
            return self._encode(jobs) if jobs else encoded
        while self._done:
            done = self._done.popleft()
            self.num_begun -= 1
            if isinstance(done, Exception):
                raise done
            encoded |= done
        while self.num_begun < self._num_threads and (jobs := next_jobs()):
            self._begin(jobs)
        return encoded

    def stop(self, timeout_s: float) -> bool:
        """Wait until the threads have ended, each after its current micro-batch; False if one has not in time.

        A thread that is still in torch when the interpreter ends aborts the process.
        """
        until = time.monotonic() + timeout_s
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _begin(self, jobs: list[JobT]) -> None:
        self.num_begun += 1
        self._todo.put(jobs)
        if len(self._threads) < self.num_begun:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (jobs := self._todo.get()) is not None:
            try:
                self._done.append(self._encode(jobs))
            except Exception as error:
                self._done.append(error)
            finally:
                self._on_done()
