"""The program of a picture decoder: a process of its own, which can be ended whatever a picture does to it.

`decoder_pool.py` starts it as `python -m blip2_serve.images.decoder` with a socket as its standard input, watches it
and ends it; it also ends by itself when the socket closes, as it does when the server dies. The limits that it sets
for itself are the second line, for a server that cannot watch.
"""

import json
import resource
import signal
import socket
from pathlib import Path

from PIL import AvifImagePlugin

from blip2_serve.errors import Blip2Error, InvalidImage
from blip2_serve.images import decoder_wire as wire
from blip2_serve.images.decode import decode_image, open_image, pixels_on_opening, squash
from blip2_serve.images.formats.heif import has_reader
from blip2_serve.images.reading import Reading
from blip2_serve.memory import give_back_free_memory

# Memory of a larger picture goes back to the system; a smaller one's is kept: to map it anew takes a millisecond.
_LARGE_PIXELS = 4_000_000
_MAX_FILES = 16
_MAX_REQUEST_BYTES = 2**32 - 1
# Address space is more than memory: libraries reserve what they never touch.
_SPACE_PER_BYTE = 2


def main() -> None:
    """Decode pictures until the server closes the socket."""
    has_reader()  # now, and not at the cost of the first picture
    _give_up_rights()
    connection = wire.Connection(socket.socket(fileno=0))
    try:
        while True:
            if _answer(connection) > _LARGE_PIXELS:
                give_back_free_memory()
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except EOFError:
        return


def _give_up_rights() -> None:
    """Open no more than a few files, write none, dump no core; Ctrl-C is for the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_FILES, _MAX_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _answer(connection: wire.Connection) -> int:
    """Decode one picture; returns the number of its pixels."""
    _, request = connection.receive(_MAX_REQUEST_BYTES)
    max_pixels, side, resample, packed = wire.REQUEST_HEAD.unpack_from(request)
    reading = Reading.unpack(packed)
    data = bytes(memoryview(request)[wire.REQUEST_HEAD.size :])
    del request
    num_pixels = pixels_on_opening(data)
    _limit(num_pixels, len(data))
    try:
        opened = open_image(data, max_pixels, reading)
        connection.send(wire.SIZE, wire.SIZE_BODY.pack(*opened.image.size))
        connection.receive(0)
        num_pixels = opened.image.width * opened.image.height
        _limit(num_pixels, len(data))
        del data
        image, is_truncated = decode_image(opened, reading)
        head = wire.TRUNCATED if is_truncated else wire.WHOLE
        connection.send(wire.PIXELS, head, squash(image, side, resample))
    except Blip2Error as error:
        connection.send(wire.REFUSED, json.dumps([type(error).__name__, error.message]).encode())
    except MemoryError:
        connection.send(wire.REFUSED, json.dumps([InvalidImage.__name__, wire.TOO_MUCH_MEMORY]).encode())
    return num_pixels


def _limit(num_pixels: int, file_bytes: int) -> None:
    """Allow a picture of these sizes its CPU seconds, from now on, and its memory."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most_s = int(used.ru_utime + used.ru_stime + wire.allowed_cpu_s(num_pixels)) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (most_s, resource.RLIM_INFINITY))
    space = _address_space()
    if space is not None:
        most = space + _SPACE_PER_BYTE * wire.allowed_bytes(num_pixels, file_bytes)
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def _address_space() -> int | None:
    """Bytes of address space in use; None where the system has no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return None


if __name__ == "__main__":
    main()
