"""The orientation of a picture from its EXIF or XMP, read alone: nothing else in them can break it or cost time."""

import re
import struct

ORIENTATION = 0x0112
UPRIGHT = 1
_FORMATS = {1: "B", 3: "H", 4: "I"}  # of a byte, a short and a long
_MAX_ENTRIES = 1024
_IN_XMP = re.compile(rb"tiff:Orientation(?:=\"|=\'|>)\s{0,8}([1-8])")


def orientation_of(exif: bytes, xmp: bytes = b"") -> int:
    """Return the orientation, 1 to 8: EXIF's, else XMP's, else UPRIGHT. `exif` may begin with its name.

    Sources: TIFF 6.0, section 2, "Image File Directory"; CIPA DC-008 (EXIF 2.32), 4.6.4.
    """
    try:
        found = _in_first_directory(exif.removeprefix(b"Exif\0\0"))
    except struct.error:
        found = None
    if found is None and (match := _IN_XMP.search(xmp)):
        found = int(match[1])
    return found if found is not None and 1 <= found <= 8 else UPRIGHT


def _in_first_directory(tiff: bytes) -> int | None:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (num_entries,) = struct.unpack_from(f"{order}H", tiff, start)
    for place in range(start + 2, start + 2 + 12 * min(num_entries, _MAX_ENTRIES), 12):
        tag, kind = struct.unpack_from(f"{order}HH", tiff, place)
        if tag == ORIENTATION and kind in _FORMATS:
            return int(struct.unpack_from(order + _FORMATS[kind], tiff, place + 8)[0])
    return None
