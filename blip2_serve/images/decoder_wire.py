"""Messages between the server and its picture decoders, and the limits that both hold a picture to.

A message is a kind (1 byte), a length (4 bytes) and as many bytes. The server sends a REQUEST; the decoder answers with
the picture's SIZE; the server sends GO once it has room for so many pixels; the decoder answers PIXELS, or at any time
REFUSED. Nothing in a decoder's answer is trusted but its form: no pickle, and each kind has its length.
"""

import socket
import struct
from collections.abc import Callable

REQUEST, SIZE, GO, PIXELS, REFUSED = b"D", b"S", b"G", b"P", b"E"
REQUEST_HEAD = struct.Struct("!QIBB")  # most pixels, side of the square, Pillow's number of the filter, `Reading`
SIZE_BODY = struct.Struct("!II")  # width, height
WHOLE, TRUNCATED = b"\0", b"\1"  # before the pixels
MAX_REFUSAL_BYTES = 4096
_HEAD = struct.Struct("!cI")

MIN_CPU_S = 2.0
CPU_S_PER_PIXEL = 0.1e-6
BYTES_PER_PIXEL = 16
SPARE_BYTES = 60_000_000
TIMES_FILE = 2

TOO_MUCH_CPU = "The picture takes too long to read: save it again as an ordinary JPEG or PNG."
TOO_MUCH_MEMORY = "The picture takes too much memory to read: save it again as an ordinary JPEG or PNG."
CRASHED = "The picture cannot be read: save it again as an ordinary JPEG or PNG."


def allowed_cpu_s(num_pixels: int) -> float:
    """CPU seconds that a picture of this size, 0 until it is known, may take."""
    return max(MIN_CPU_S, CPU_S_PER_PIXEL * num_pixels)


def allowed_bytes(num_pixels: int, file_bytes: int) -> int:
    """Bytes of memory that a picture of this size, 0 until it is known, may take beside `file_bytes` of its own."""
    return BYTES_PER_PIXEL * num_pixels + TIMES_FILE * file_bytes + SPARE_BYTES


class Connection:
    """One end of a stream socket. `while_waiting` is called each time that nothing has come for the socket's timeout.

    Raises:
        EOFError: the other end is gone.
        ValueError: a message is longer than `max_bytes`.
    """

    def __init__(self, stream: socket.socket, while_waiting: Callable[[], None] | None = None) -> None:
        self._stream = stream
        self._while_waiting = while_waiting

    def send(self, kind: bytes, *parts: bytes) -> None:
        """Send one message, its body in parts."""
        for part in (_HEAD.pack(kind, sum(map(len, parts))), *parts):
            rest = memoryview(part)
            while rest:
                try:
                    rest = rest[self._stream.send(rest) :]
                except TimeoutError:
                    self._wait()
                except OSError:
                    raise EOFError from None

    def receive(self, max_bytes: int) -> tuple[bytes, bytearray]:
        """Wait for a message; returns its kind and its body."""
        kind, length = _HEAD.unpack(self._read(_HEAD.size))
        if length > max_bytes:
            raise ValueError(f"a message of {length} bytes is longer than {max_bytes}")
        return kind, self._read(length)

    def _read(self, length: int) -> bytearray:
        body = bytearray(length)
        rest = memoryview(body)
        while rest:
            try:
                num_read = self._stream.recv_into(rest)
            except TimeoutError:
                self._wait()
                continue
            except OSError:
                raise EOFError from None
            if not num_read:
                raise EOFError
            rest = rest[num_read:]
        return body

    def _wait(self) -> None:
        if self._while_waiting is not None:
            self._while_waiting()
