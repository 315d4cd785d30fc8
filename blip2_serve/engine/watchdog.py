"""Finds a call of the model that hangs: Python cannot stop it, but callers need not wait for it."""

import math
import threading
import time
from collections.abc import Callable


class Watchdog:
    """Calls `on_hang` with the reason when more than `timeout_s` pass from a thread's `begin` to its next or `rest`."""

    def __init__(self, timeout_s: float, on_hang: Callable[[str], None]) -> None:
        self._timeout_s = timeout_s
        self._began: dict[int, float] = {}  # by thread
        self._on_hang = on_hang
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="engine-watchdog", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def begin(self) -> None:
        """Note that the calling thread begins something new."""
        self._began[threading.get_ident()] = time.monotonic()

    def rest(self) -> None:
        """Note that the calling thread has nothing to do."""
        self._began.pop(threading.get_ident(), None)

    def stop(self) -> None:
        """Stop watching; waits for the watchdog's thread unless called on it."""
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, self._timeout_s / 4)):
            began = min(list(self._began.values()), default=math.inf)
            if time.monotonic() - began > self._timeout_s:
                self._on_hang(f"a call of the model took longer than {self._timeout_s:g} s")
                return
