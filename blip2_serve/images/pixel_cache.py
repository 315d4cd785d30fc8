"""Pictures sent before, at the model's size, for later questions that give only the picture's id."""

import threading
from collections import OrderedDict


class PixelCache:
    """Evicts the least recently used pictures beyond `max_bytes`; 0 bytes hold nothing. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._pixels: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sha256: bytes) -> bytes | None:
        """Return the pixels of the picture whose bytes have this digest, or None."""
        with self._lock:
            pixels = self._pixels.get(sha256)
            if pixels is not None:
                self._pixels.move_to_end(sha256)
            return pixels

    def put(self, sha256: bytes, pixels: bytes) -> None:
        """Keep a picture's pixels under the digest of its bytes."""
        with self._lock:
            if sha256 not in self._pixels:
                self._pixels[sha256] = pixels
                self._num_bytes += len(pixels)
            self._pixels.move_to_end(sha256)
            while self._num_bytes > self._max_bytes:
                _, oldest = self._pixels.popitem(last=False)
                self._num_bytes -= len(oldest)
