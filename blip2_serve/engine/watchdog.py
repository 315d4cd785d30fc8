"""A thread that finds a call of the model which hangs: Python cannot stop it, but callers need not wait for it."""

import threading
import time
from collections.abc import Callable


class Watchdog:
    """Calls `on_hang` with the reason when more than `timeout_s` pass from one `begin` to the next, or to `rest`."""

    def __init__(self, timeout_s: float, on_hang: Callable[[str], None]) -> None:
        self._timeout_s = timeout_s
        self._began: float | None = None
        self._on_hang = on_hang
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="engine-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def begin(self) -> None:
        """Notes that the thread which is watched begins something new."""
        self._began = time.monotonic()

    def rest(self) -> None:
        """Notes that it has nothing to do."""
        self._began = None

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, self._timeout_s / 4)):
            began = self._began
            if began is not None and time.monotonic() - began > self._timeout_s:
                self._on_hang(f"a call of the model took longer than {self._timeout_s:g} s")
                return
