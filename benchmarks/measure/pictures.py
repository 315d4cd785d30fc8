"""Pictures to send: 640x480 JPEGs of the demo's world, as many different uploads as are asked for."""

from collections.abc import Iterator
from functools import cache
from itertools import count

from training.pictures.drawing import jpeg_bytes
from training.pictures.held_out import standard

NUM_DRAWN = 64
_START_OF_IMAGE = b"\xff\xd8"


def uploads(series: str) -> Iterator[bytes]:
    """Endlessly many; no two have the same bytes, nor those of another series, so no cache of pictures knows them.

    The pixels repeat after NUM_DRAWN pictures: what differs is a comment in the file.
    """
    drawn = [_drawn(index) for index in range(NUM_DRAWN)]  # all at once, so that none is drawn while it is timed
    for number in count():
        yield with_comment(drawn[number % NUM_DRAWN], f"{series} {number}")


def with_comment(jpeg: bytes, comment: str) -> bytes:
    """The JPEG with a comment segment (ITU T.81, B.2.4.5) after its first marker."""
    text = comment.encode()
    segment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
    return _START_OF_IMAGE + segment + jpeg.removeprefix(_START_OF_IMAGE)


@cache
def _drawn(index: int) -> bytes:
    return jpeg_bytes(standard(index)[1], 90)
