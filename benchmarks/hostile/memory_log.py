"""Resident memory of a server, read again and again beside a run."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure.processes import Processes

Readings = list[tuple[float, float]]
"""Seconds since the start, and megabytes."""


@contextmanager
def memory_log(pid: int, every_s: float) -> Iterator[Readings]:
    """Read the memory of a process and its children every `every_s` seconds; the list grows meanwhile."""
    readings: Readings = []
    processes, ended, began = Processes(pid), threading.Event(), time.monotonic()

    def read() -> None:
        while not ended.wait(every_s):
            readings.append((round(time.monotonic() - began, 1), round(processes.resident_mb(), 1)))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield readings
    finally:
        ended.set()
        thread.join()
