"""Resident memory of a server, read again and again beside a run."""

import threading
import time
from types import TracebackType

from benchmarks.measure.processes import Processes


class MemoryLog:
    """While its context lasts, `readings` grows by (seconds since the start, megabytes) every `every_s` seconds."""

    def __init__(self, pid: int, every_s: float) -> None:
        self.readings: list[tuple[float, float]] = []
        self._processes = Processes(pid)
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "MemoryLog":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _read(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(self._every_s):
            self.readings.append((round(time.monotonic() - began, 1), round(self._processes.resident_mb(), 1)))
