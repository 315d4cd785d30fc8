"""Pictures at the model's size that were sent before, for questions that come later with the picture's id."""

import threading
from collections import OrderedDict


class PixelCache:
    """The least recently used pictures leave first when `max_bytes` is exceeded; 0 bytes hold nothing. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._pixels: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sha256: bytes) -> bytes | None:
        """The pixels of the picture whose bytes have this digest; None if they are not here."""
        with self._lock:
            pixels = self._pixels.get(sha256)
            if pixels is not None:
                self._pixels.move_to_end(sha256)
            return pixels

    def put(self, sha256: bytes, pixels: bytes) -> None:
        """Keep a picture."""
        with self._lock:
            if sha256 not in self._pixels:
                self._pixels[sha256] = pixels
                self._num_bytes += len(pixels)
            while self._num_bytes > self._max_bytes:
                _, oldest = self._pixels.popitem(last=False)
                self._num_bytes -= len(oldest)
