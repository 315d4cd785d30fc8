"""A limit on pixels decoded at once: threads alone do not bound memory, as pictures differ a thousandfold in size."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

MAX_PIXELS_AT_ONCE = 100_000_000


class PixelBudget:
    """Grants claims in order of arrival; a picture larger than the whole budget waits until it is alone."""

    def __init__(self, pixels: int = MAX_PIXELS_AT_ONCE) -> None:
        self._pixels = pixels
        self._claimed = 0
        self._turn = threading.Lock()
        self._freed = threading.Condition()

    @contextmanager
    def claim(self, pixels: int) -> Iterator[None]:
        """Block until there is room for `pixels`, and release them on exit."""
        # Only the first in line waits for room, so that small pictures do not starve a large one.
        with self._turn, self._freed:
            self._freed.wait_for(lambda: not self._claimed or self._claimed + pixels <= self._pixels)
            self._claimed += pixels
        try:
            yield
        finally:
            with self._freed:
                self._claimed -= pixels
                self._freed.notify_all()
