"""Decode strangers' pictures in processes that are watched, and ended when a picture takes too much.

A picture costs at most the CPU and memory that `decoder_wire` allows for its size: then its decoder is killed and
replaced, its sender is told, and nobody else notices. A decoder knows no secrets, and neither torch nor BentoML.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from blip2_serve.config import decoder_variables
from blip2_serve.errors import Blip2Error, ImageTooLarge, InvalidImage, Part, RequestError, UnsupportedImage
from blip2_serve.images import decoder_wire as wire
from blip2_serve.images.budget import PixelBudget
from blip2_serve.images.decode import pixels_on_opening
from blip2_serve.images.reading import REFERENCE, Reading

logger = logging.getLogger(__name__)

# A picture that is not read by now, however little CPU it takes: the decoder hangs, or the machine is overwhelmed.
MAX_WALL_S = 60.0
# From then on a picture has the lowest priority: others' pictures and the model go first.
POLITE_CPU_S = 0.5
# Libraries leak; a new process does not.
MAX_PICTURES = 1000
_WATCH_EVERY_S = 0.01
_REFUSALS: dict[str, type[RequestError]] = {
    refusal.__name__: refusal for refusal in (InvalidImage, UnsupportedImage, ImageTooLarge)
}
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Squashed(NamedTuple):
    """A picture at the model's size: side * side * 3 RGB bytes, line by line.

    `is_truncated` if its file is cut short, and the rest of the picture black or grey.
    """

    pixels: bytes
    is_truncated: bool = False


class DecoderPool:
    """At most `num_processes` decoders, started when they are needed; any thread may `decode`.

    Pictures of more than `max_pixels` are refused; `PixelBudget` bounds those that are decoded at once.
    """

    def __init__(self, num_processes: int, max_pixels: int, reading: Reading = REFERENCE) -> None:
        self._max_pixels = max_pixels
        self._reading = reading
        self._budget = PixelBudget()
        self._free = threading.Semaphore(num_processes)
        self._num_processes = num_processes
        self._idle: list[_Decoder] = []
        self._closed = False

    def start(self) -> None:
        """Start all decoders now, so that no request waits for one."""
        self._idle += [_Decoder() for _ in range(self._num_processes - len(self._idle))]

    def close(self) -> None:
        """End all decoders; those at work end when they are done."""
        self._closed = True
        while self._idle:
            self._idle.pop().end()

    def decode(self, data: bytes, side: int, resample: int) -> Squashed:
        """Decode a picture and squash it to `side` x `side`.

        `resample` is Pillow's number of a filter. Blocks until a decoder is free and has done it.

        Raises:
            InvalidImage: empty, cut short or damaged, or it takes more CPU or memory than its size allows.
            UnsupportedImage: not one of `decode.FORMATS`.
            ImageTooLarge: too many pixels, judged from the header before decoding, or too long a side.
        """
        on_opening = min(pixels_on_opening(data), self._max_pixels)
        with self._decoder() as decoder, self._budget.claim(on_opening):
            head = wire.REQUEST_HEAD.pack(self._max_pixels, side, resample, self._reading.pack())
            num_pixels = decoder.open(data, on_opening, head)
            with self._budget.claim(max(0, num_pixels - on_opening)):
                return decoder.finish(num_pixels, side)

    @contextlib.contextmanager
    def _decoder(self) -> Iterator["_Decoder"]:
        with self._free:
            decoder = self._idle.pop() if self._idle else _Decoder()
            try:
                yield decoder
            finally:
                self._take_back(decoder)

    def _take_back(self, decoder: "_Decoder") -> None:
        if decoder.is_worn:
            decoder.end()
            if self._closed:
                return
            decoder = _Decoder()  # it starts beside us, and is ready when it is needed
        self._idle.append(decoder)
        if self._closed:
            self.close()


class _Decoder:
    """One process; `is_worn` once it should not read another picture."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "blip2_serve.images.decoder"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=decoder_variables(),
            )
        self._socket = ours
        ours.settimeout(_WATCH_EVERY_S)
        self._connection = wire.Connection(ours, self._watch)
        self._num_pictures = 0
        self._is_open = False
        self._is_polite = False
        self._began = 0.0
        self._cpu_before: float | None = None
        self._bytes_before = 0
        self._is_measured = False
        self._num_pixels = self._file_bytes = 0

    @property
    def is_worn(self) -> bool:
        """True if it was ended or slowed down, is in the middle of a picture, or has read many."""
        return self._is_open or self._is_polite or self._num_pictures >= MAX_PICTURES

    def open(self, data: bytes, on_opening: int, head: bytes) -> int:
        """Send a picture, `head` before it; returns the number of its pixels once its header is read."""
        self._is_open = True
        self._num_pictures += 1
        self._num_pixels, self._file_bytes = on_opening, len(data)
        self._began = time.monotonic()
        self._cpu_before = None
        if not self._is_measured:
            _, self._bytes_before = self._usage() or (0.0, 0)
            self._is_measured = self._num_pictures > 1  # before its first picture it has not loaded everything
        with self._ended_by_the_picture():
            self._connection.send(wire.REQUEST, head, data)
            width, height = wire.SIZE_BODY.unpack(self._receive(wire.SIZE, wire.SIZE_BODY.size))
            return int(width * height)

    def finish(self, num_pixels: int, side: int) -> Squashed:
        """Let the opened picture be decoded."""
        self._num_pixels = num_pixels
        self._began = time.monotonic()
        with self._ended_by_the_picture():
            self._connection.send(wire.GO)
            answer = bytes(self._receive(wire.PIXELS, 1 + side * side * 3))
        self._is_open = False
        return Squashed(answer[1:], answer[:1] == wire.TRUNCATED)

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def _receive(self, expected: bytes, num_bytes: int) -> bytearray:
        kind, body = self._connection.receive(max(num_bytes, wire.MAX_REFUSAL_BYTES))
        if kind == wire.REFUSED:
            self._is_open = False
            raise _refusal(body)
        if (kind, len(body)) != (expected, num_bytes):
            raise ValueError(f"a decoder answered {len(body)} bytes of kind {kind!r}")
        return body

    @contextlib.contextmanager
    def _ended_by_the_picture(self) -> Iterator[None]:
        """Blame the picture for a decoder that ends, or answers nonsense, while it reads it."""
        try:
            yield
        except (EOFError, ValueError) as reason:
            self._process.kill()
            status = self._process.wait()
            logger.warning("a picture ended its decoder: %s, exit status %d", type(reason).__name__, status)
            _refuse(wire.TOO_MUCH_CPU if status == -signal.SIGXCPU else wire.CRASHED)

    def _watch(self) -> None:
        """Raise InvalidImage, its decoder worn, if the picture takes more than its size allows.

        Measuring takes as long as a tenth of a small picture: CPU counts from the first look, and memory from what the
        decoder had before the last picture that was looked at.
        """
        cpu_s, num_bytes = self._usage() or (0.0, 0)
        self._is_measured = False  # what lasts so long may leave memory behind
        if self._cpu_before is None:
            self._cpu_before = cpu_s
        cpu_s, num_bytes = cpu_s - self._cpu_before, num_bytes - self._bytes_before
        if num_bytes > wire.allowed_bytes(self._num_pixels, self._file_bytes):
            _refuse(wire.TOO_MUCH_MEMORY)
        if cpu_s > wire.allowed_cpu_s(self._num_pixels) or time.monotonic() - self._began > MAX_WALL_S:
            _refuse(wire.TOO_MUCH_CPU)
        if cpu_s > POLITE_CPU_S and not self._is_polite:
            self._is_polite = True
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, 19)

    def _usage(self) -> tuple[float, int] | None:
        """CPU seconds and resident bytes; None where the system has no /proc, or the process has ended."""
        folder = Path(f"/proc/{self._process.pid}")
        try:
            times = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
            resident = int((folder / "statm").read_text().split()[1])
        except (OSError, IndexError):
            return None
        return sum(map(int, times)) / _TICKS_PER_S, resident * _PAGE_BYTES


def _refuse(message: str) -> NoReturn:
    raise InvalidImage(message, about=Part.IMAGE)


def _refusal(body: bytearray) -> Blip2Error:
    """Read a refusal as one of the few errors that a decoder may raise; anything else is a ValueError."""
    name, message = json.loads(body)
    if name not in _REFUSALS or not isinstance(message, str):
        raise ValueError("a decoder refused a picture for no known reason")
    return _REFUSALS[name](message, about=Part.IMAGE)
