"""WebP without its metadata. Source: RFC 9649, section 2."""

import struct

from blip2_serve.images.formats.orientation import orientation_of
from blip2_serve.images.formats.plain import PlainFile, check_pieces

_HEAD = struct.Struct("<4sI")
_PICTURE = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
_EXTENDED = b"VP8X"
_METADATA_FLAGS = 0x20 | 0x08 | 0x04  # profile, EXIF, XMP


def plain_webp(data: bytes) -> PlainFile:
    """Drop chunks that are no picture, and what stands behind the last whole one or behind the file's own end.

    Raises:
        InvalidImage: there are too many chunks of metadata.
    """
    view, place, pieces = memoryview(data)[: 8 + int.from_bytes(data[4:8], "little")], 12, 0
    found: dict[bytes, bytes] = {}
    kept: list[bytes | memoryview] = []
    while place + _HEAD.size <= len(view):
        kind, length = _HEAD.unpack_from(view, place)
        body = view[place + _HEAD.size : place + _HEAD.size + length]
        if kind in _PICTURE:
            # A body that is cut short keeps its length, for libwebp to refuse.
            kept += [view[place : place + _HEAD.size], _without_flags(body) if kind == _EXTENDED else body]
            kept.append(bytes(length % 2))
        else:
            pieces += 1
            check_pieces(pieces)
            found.setdefault(kind, bytes(body))
        place += _HEAD.size + length + length % 2
    size = 4 + sum(map(len, kept))
    plain = b"".join([b"RIFF", struct.pack("<I", size), b"WEBP", *kept])
    profile = found.get(b"ICCP", b"")
    return PlainFile(plain, orientation_of(found.get(b"EXIF", b""), found.get(b"XMP ", b"")), profile)


def _without_flags(body: memoryview) -> bytes:
    return bytes((body[0] & ~_METADATA_FLAGS,)) + body[1:] if body else b""
