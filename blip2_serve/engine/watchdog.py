"""A thread that finds a step which hangs: Python cannot stop it, but callers need not wait for it."""

import threading
import time
from collections.abc import Callable


class Watchdog:
    """Calls `on_hang` with the reason when a step that began at `started()` takes longer than `timeout_s`."""

    def __init__(self, timeout_s: float, started: Callable[[], float | None], on_hang: Callable[[str], None]) -> None:
        self._timeout_s = timeout_s
        self._started = started
        self._on_hang = on_hang
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="engine-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, self._timeout_s / 4)):
            started = self._started()
            if started is not None and time.monotonic() - started > self._timeout_s:
                self._on_hang(f"a step of the engine took longer than {self._timeout_s:g} s")
                return
