"""Give free memory back to the system: the C library keeps what was freed between blocks in use, at times gigabytes."""

import ctypes
import gc
import threading
from collections.abc import Callable

# Trimming walks the heap, some milliseconds: only after as much has been freed, and no sooner than this.
_WORTH_BYTES = 32_000_000
_DELAY_S = 5.0


def give_back_free_memory() -> None:
    """Return free pages to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_what_is_loaded() -> None:
    """Keep the cyclic collector from what lives as long as the process: once a server is ready.

    The modules and the model are a million objects. A full collection stopped every thread for 0.4 s, on two EPYC
    cores, several times a minute under load.
    """
    gc.collect()
    gc.freeze()


class FreedMemory:
    """Gives memory back a few seconds after much of it has been freed; from any thread."""

    def __init__(self, give_back: Callable[[], None] = give_back_free_memory, delay_s: float = _DELAY_S) -> None:
        self._give_back = give_back
        self._delay_s = delay_s
        self._turn = threading.Lock()
        self._num_bytes = 0
        self._is_due = False

    def note(self, num_bytes: int) -> None:
        """Count bytes that have been freed, or will be in a moment."""
        with self._turn:
            self._num_bytes += num_bytes
            if self._num_bytes < _WORTH_BYTES or self._is_due:
                return
            self._is_due = True
        timer = threading.Timer(self._delay_s, self._run)
        timer.daemon = True
        timer.start()

    def _run(self) -> None:
        with self._turn:
            self._num_bytes = 0
            self._is_due = False
        self._give_back()
