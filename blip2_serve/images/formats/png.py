"""PNG without its metadata. Sources: the PNG specification (third edition), sections 5 and 11; RFC 1950."""

import contextlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image

from blip2_serve.errors import InvalidImage, Part
from blip2_serve.images.formats.orientation import orientation_of
from blip2_serve.images.formats.plain import PlainFile, check_pieces
from blip2_serve.images.pixels.color import MAX_PROFILE_BYTES

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">I4s")
_SHAPE = struct.Struct(">IIBB")  # width, height, depth, colour type
_END = _HEAD.pack(0, b"IEND") + struct.pack(">I", zlib.crc32(b"IEND"))
_MAX_TEXT_BYTES = 2**20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_EXIF_TEXT, _XMP_TEXT = b"Raw profile type exif\0", b"XML:com.adobe.xmp\0"
_PIECE_BYTES = 2**14  # inflated, at most 16 MB


@dataclass(slots=True)
class _Chunks:
    """The chunks of a file in turn; `is_cut` once it stopped in the middle of one, or before its end."""

    data: bytes
    is_cut: bool = False

    def __iter__(self) -> Iterator[tuple[bytes, memoryview]]:
        """Yield kinds and whole chunks; the last may be image data that stops short."""
        view, place, pieces = memoryview(self.data), len(SIGNATURE), 0
        while True:
            if place + _HEAD.size > len(view):
                self.is_cut = True
                return
            length, kind = _HEAD.unpack_from(view, place)
            end = place + length + 12
            if kind == b"IEND" or not kind.isalpha():
                return
            pieces += _is_ancillary(kind) or not length
            check_pieces(pieces)
            self.is_cut = end > len(view)
            if not self.is_cut or kind == b"IDAT":
                yield kind, view[place:end]
            if self.is_cut:
                return
            place = end


@dataclass(slots=True)
class _Metadata:
    exif: bytes = b""
    xmp: bytes = b""
    profile: bytes = b""
    keeps_profile: bool = False
    kinds: set[bytes] = field(default_factory=set)

    def read(self, kind: bytes, body: memoryview) -> None:
        """Keep what counts of an ancillary chunk."""
        if kind == b"eXIf":
            self.exif = self.exif or bytes(body)
        elif kind == b"iCCP" and self.keeps_profile:
            self.profile = self.profile or _inflated_behind_name(bytes(body), MAX_PROFILE_BYTES)
        elif kind in (b"tEXt", b"zTXt") and body[: len(_EXIF_TEXT)] == _EXIF_TEXT:
            self.exif = self.exif or _exif_of_text(kind, bytes(body))
        elif kind == b"iTXt" and body[: len(_XMP_TEXT)] == _XMP_TEXT:
            self.xmp = self.xmp or bytes(body)


def plain_png(data: bytes, *, keeps_profile: bool) -> PlainFile:
    """Drop all ancillary chunks but transparency, and check the CRCs of the rest.

    Of an animation the default image, which Pillow counts as the first frame, is left.

    Raises:
        InvalidImage: the CRC of a critical chunk is wrong, or there are too many chunks of metadata.
    """
    kept: list[bytes | memoryview] = [SIGNATURE]
    metadata, chunks = _Metadata(keeps_profile=keeps_profile), _Chunks(data)
    for kind, chunk in chunks:
        is_whole = chunks.is_cut or zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])
        if not _is_ancillary(kind):
            if not is_whole:
                raise InvalidImage("The picture is damaged, its checksums are wrong: send it again.", about=Part.IMAGE)
            kept.append(chunk)
        elif is_whole and kind == b"tRNS":
            kept.append(chunk)
        elif is_whole:
            metadata.read(kind, chunk[8:-4])
    kept += [] if chunks.is_cut else [_END]
    orientation = orientation_of(metadata.exif, metadata.xmp)
    return PlainFile(b"".join(kept), orientation, metadata.profile, chunks.is_cut)


def load_cut_png(image: Image.Image, data: bytes) -> bool:
    """Load a picture whose file, `data`, stops before its end; False if rows are missing, which stay black.

    Raises:
        OSError: the data is damaged, or less than half of the picture is there.
    """
    try:
        image.load()
    except OSError as error:
        # What Pillow has decoded stays in the picture.
        if "truncated" not in str(error) or _share_of_rows(data) < 0.5:
            raise
        image.tile = []  # type: ignore[attr-defined]
        return False
    return True


def _share_of_rows(data: bytes) -> float:
    """The share of the picture's data that is there, 0 to 1; of an interlaced one about that."""
    width, height, depth, color = _SHAPE.unpack_from(data, len(SIGNATURE) + _HEAD.size)
    expected: int = (1 + (width * depth * _CHANNELS[color] + 7) // 8) * height
    inflating, found = zlib.decompressobj(), 0
    for kind, chunk in _Chunks(data):
        length = int.from_bytes(chunk[:4]) if kind == b"IDAT" else 0
        body = chunk[_HEAD.size : _HEAD.size + length]
        for start in range(0, len(body), _PIECE_BYTES):
            found += len(inflating.decompress(body[start : start + _PIECE_BYTES]))
    return found / expected


def _is_ancillary(kind: bytes) -> bool:
    return bool(kind[0] & 0x20)


def _inflated_behind_name(body: bytes, max_bytes: int) -> bytes:
    """Inflate what stands behind a name and a method; nothing if that fails or is too long."""
    with contextlib.suppress(zlib.error):
        inflating = zlib.decompressobj()
        found = inflating.decompress(body.partition(b"\0")[2][1:], max_bytes)
        return b"" if inflating.unconsumed_tail else found
    return b""


def _exif_of_text(kind: bytes, body: bytes) -> bytes:
    """Read EXIF as ImageMagick once wrote it: an empty line, a name, a length, and lines of hex digits."""
    text = body[len(_EXIF_TEXT) :] if kind == b"tEXt" else _inflated_behind_name(body, _MAX_TEXT_BYTES)
    try:
        return bytes.fromhex("".join(text[:_MAX_TEXT_BYTES].decode("latin-1").split("\n")[3:]))
    except ValueError:
        return b""
