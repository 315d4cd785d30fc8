"""JPEG without its metadata, and JPEG that is cut short. Source: ITU-T T.81, annexes B and G; T.871 (JFIF)."""

import functools
import io
import random
import re
import struct
from dataclasses import dataclass, field

from PIL import Image, ImageChops

from blip2_serve.images.formats.orientation import orientation_of
from blip2_serve.images.formats.plain import PlainFile, check_pieces
from blip2_serve.images.pixels.color import MAX_PROFILE_BYTES

START = b"\xff\xd8\xff"
_END = b"\xff\xd9"
_SCAN, _TABLES, _PROGRESSIVE = 0xDA, 0xC4, (0xC2, 0xCA)
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a body
_METADATA = frozenset({*range(0xE0, 0xF0), 0xFE})
_FILL = re.compile(rb"\xff+")
_EXIF, _XMP, _PROFILE = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"


@dataclass(slots=True)
class _Metadata:
    exif: bytes = b""
    xmp: bytes = b""
    profile: dict[int, bytes] = field(default_factory=dict)

    def read(self, marker: int, body: bytes) -> None:
        if marker == 0xE1 and body.startswith(_EXIF):
            self.exif = self.exif or body
        elif marker == 0xE1 and body.startswith(_XMP):
            self.xmp = self.xmp or body
        elif marker == 0xE2 and body.startswith(_PROFILE) and len(body) > 14:
            self.profile.setdefault(body[12], body[14:])


def plain_jpeg(data: bytes, *, keeps_profile: bool) -> PlainFile:
    """Drop application segments and comments before the first scan, but those that tell how colours are coded.

    Raises:
        InvalidImage: there are too many segments.
    """
    kept, metadata = [data[:2]], _Metadata()
    scans = _read_header(data, kept, metadata)
    if scans is None:
        return PlainFile(data, orientation_of(metadata.exif, metadata.xmp))
    kept.append(data[scans:])
    profile = b"".join(metadata.profile[part] for part in sorted(metadata.profile)) if keeps_profile else b""
    return PlainFile(
        b"".join(kept),
        orientation_of(metadata.exif, metadata.xmp),
        profile if len(profile) <= MAX_PROFILE_BYTES else b"",
        # Data of a picture has no byte 0xFF without a zero behind it.
        is_cut=data.find(_END, scans) < 0,
    )


def _read_header(data: bytes, kept: list[bytes], metadata: _Metadata) -> int | None:
    """Sort the segments before the first scan, and return where it begins; None if there is none."""
    place, pieces = 2, 0
    while True:
        pieces += 1
        check_pieces(pieces)
        place = data.find(b"\xff", place)  # what is between segments is skipped, as libjpeg does
        if place < 0 or place + 4 > len(data):
            return None
        place = _end_of_fill(data, place)
        marker = data[place + 1]
        if marker == 0x00:
            place += 2
            continue
        if marker in (_SCAN, _END[1]):
            return place if marker == _SCAN else None
        end = place + 2 if marker in _ALONE else place + 2 + max(2, int.from_bytes(data[place + 2 : place + 4]))
        body = data[place + 4 : end]
        if marker not in _METADATA or _tells_colors(marker, body):
            kept.append(data[place:end])
        else:
            metadata.read(marker, body)
        place = end


def _end_of_fill(data: bytes, place: int) -> int:
    """Skip all but the last 0xFF of a run, any number of which may precede a marker; the data goes on behind it."""
    run = _FILL.match(data, place, len(data) - 3)
    return run.end() - 1 if run else place


def _tells_colors(marker: int, body: bytes) -> bool:
    """True of a JFIF or Adobe segment as long as libjpeg wants it."""
    is_jfif = marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14
    return is_jfif or (marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12)


def load_cut_jpeg(data: bytes) -> tuple[Image.Image, bool]:
    """Load a JPEG without its end marker; False if something is missing, which libjpeg makes grey.

    Pillow does not say whether libjpeg missed anything. A picture that is all there looks the same whatever follows
    it; of one that is not, the first row that is missing is the first that differs.

    Raises:
        OSError: the data is damaged, or less than half of the rows is there.
    """
    data = _without_torn_segment(data)
    image, other = _loaded(data + _END), _loaded(data + _anything() + _END)
    box = ImageChops.difference(image, other).getbbox(alpha_only=False)
    del other
    scans = list(_scans(data))
    # Of a progressive JPEG the first scan has every row, roughly.
    has_most = box is None or 2 * box[1] >= image.height or (_is_progressive(data) and len(scans) > 1)
    if not has_most:
        raise OSError("less than half of the rows are there")
    return image, box is None and (not _is_progressive(data) or _is_refined(scans))


def _loaded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.load()
    return image


@functools.cache
def _anything() -> bytes:
    """Bytes that are no picture's, with every restart marker among them."""
    noise = [bytes(random.Random(seed).choices(range(1, 255), k=512)) for seed in range(9)]
    return noise[0] + b"".join(bytes((0xFF, 0xD0 + place)) + each for place, each in enumerate(noise[1:]))


def _without_torn_segment(data: bytes) -> bytes:
    """Drop the header of a scan, or tables, that stop short: an end marker would be taken for a part of them."""
    place = max(data.rfind(bytes((0xFF, marker))) for marker in (_SCAN, _TABLES))
    length = int.from_bytes(data[place + 2 : place + 4])
    return data[:place] if place + 2 + max(length, 2) > len(data) else data


def _is_progressive(data: bytes) -> bool:
    return any(bytes((0xFF, marker)) in data[: data.find(bytes((0xFF, _SCAN)))] for marker in _PROGRESSIVE)


def _scans(data: bytes) -> list[bytes]:
    """The bodies of the scans' headers."""
    starts = [match.end() for match in re.finditer(rb"\xff\xda", data)]
    return [data[start + 2 : start + int.from_bytes(data[start : start + 2])] for start in starts]


def _is_refined(scans: list[bytes]) -> bool:
    """True if the scans of a progressive JPEG give all bits of all coefficients of the components that they name."""
    missing: dict[int, list[bool]] = {}
    for scan in scans:
        try:
            components = [scan[1 + 2 * place] for place in range(scan[0])]
            first, last, bits = struct.unpack_from("BBB", scan, 1 + 2 * scan[0])
        except (IndexError, struct.error):
            return False
        for component in components:
            coefficients = missing.setdefault(component, [True] * 64)
            coefficients[first : last + 1] = [bits & 0x0F > 0] * (min(last, 63) + 1 - first)
    return not any(map(any, missing.values()))
